"""`enginery show`: a page that a person reads; `--json`: all of it, for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enginery.cli.main import main
from enginery.project.paths import engine_report
from enginery.registry.store import Engine
from enginery.system.files import read_json, write_json
from tests.registered import DIGEST, enter, profile, recipe, records, report, timing

NAME = "m/server/int8"
PAGE = f"""\
{NAME}: validated

What      TensorRT 10.16.1.11 plan in int8 for Card, compute capability 9.0, linux_x86_64
          input 1x3x160x160 to 8x3x160x160, best at 4x3x160x160
          images as Ultralytics prepares them for its task
          0.0 MB, artifacts/engines/{NAME}/model.plan
          sha256 DIGEST

From      m.pt
          sha256 {DIGEST}
          detect, 12 classes: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more
          calibrated with data/c, 300 images: mse
          layers in int8: 1, kept in fp16: 2

Checked   its graph on the CPU, with 4 images of data/images:
            mAP50-95 0.5000, FP32 original 0.5000 (a drop of 0.01 is allowed)
            RMS difference of outputs 0.001 (0.02 is allowed), no NaN or Inf
          the engine itself on Card (GPU-1):
            mAP50-95 0.5000, FP32 original 0.5000 (a drop of 0.01 is allowed)
            RMS difference of outputs 0.001 (0.02 is allowed), no NaN or Inf

Speed     on Card, a batch of 4: p50 2.00 ms, p90 2.20 ms, p99 2.20 ms
          with transfers: p50 2.00 ms, p90 2.20 ms, p99 2.20 ms
          as a CUDA graph: p50 1.50 ms, p90 1.65 ms, p99 1.65 ms
          500 images a second

Made by   export 1: tool 1.0
          simplify 1: tool 1.0
          calibrate 1: tool 1.0
          quantize 1: tool 1.0
          validate 1: tool 1.0
          build 1: TensorRT 10.16.1.11, workspace_mib 1024

Messages  90 x Converting scales to fp32.
          a warning
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An INT8 engine with a range of batches, for which TensorRT wrote one message 90 times."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    plan = tmp_path / "plan"
    plan.write_bytes(b"plan")
    made_of = records(plan, profile=profile(1, 4, 8), workspace_mib=1024, optimization_level=None)
    made_of["export"]["names"] = {str(index): f"c{index}" for index in range(12)}
    made_of["quantize"] |= {
        "quantized": ["a"],
        "excluded": ["b", "c"],
        "calibration": {
            "recipe": recipe("calibrate", calibration="data/c", counting={"algorithm": "mse"}),
            "images": 300,
            "images_sha256": DIGEST,
            "own_quantization": False,
        },
    }
    made_of["build"]["messages"] = ["a warning", *[" Converting scales to fp32."] * 90]
    return enter(NAME, plan, made_of)


def page(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["show", "int8", *options]) == 0
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()) + "\n"


def test_a_page_says_what_from_what_how_checked_and_how_fast(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = report(engine, (0, "opt", 4), (0, "min", 1), (0, "max", 8), timing=timing(2.0, 1.5))
    write_json(engine_report("m", "server", "int8"), measured)
    assert page(capsys) == PAGE.replace("DIGEST", engine.manifest.plan.sha256)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_page_fits_the_terminal(
    engine: Engine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, page(capsys).splitlines())) <= columns


def test_json_is_the_whole_manifest(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(page(capsys, "--json"))
    manifest = read_json(engine.folder / "manifest.json")
    more = {"path": engine.plan.as_posix(), "state": "candidate", "reason": ""}
    assert shown == {**manifest, **more}
    assert len(shown["steps"]["build"]["messages"]) == 91


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"own_quantization": True}, "INT8 by the Q/DQ nodes that the model brings"),
        (
            {"recipe": recipe("calibrate", calibration="my.cache"), "images": 0},
            "calibrated with my.cache: ranges taken",
        ),
    ],
)
def test_where_the_ranges_are_from(
    engine: Engine, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], line: str
) -> None:
    path = engine.folder / "manifest.json"
    manifest = read_json(path)
    manifest["steps"]["quantize"]["calibration"].update(facts)
    write_json(path, manifest)
    assert line in page(capsys)


def test_native_calibration_is_named_with_what_its_numbers_do_not_tell(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    path = engine.folder / "manifest.json"
    manifest = read_json(path)
    manifest["steps"]["build"]["native_cache"] = "TRT-8600"
    write_json(path, manifest)
    shown = page(capsys)
    assert "calibrated with data/c, 300 images: TensorRT's own calibration" in shown
    assert "what TensorRT's own cost, only `enginery validate` tells" in shown
    assert "the engine itself: not validated on its GPU" in shown
