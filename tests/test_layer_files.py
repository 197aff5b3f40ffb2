"""An inspection for viewers, as trtexec exports it, and what stands out in it, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enginery.actions import inspect as action
from enginery.cli.main import main
from enginery.report.layer_files import layer_info, profile
from enginery.report.layer_hints import summarize
from enginery.toolchain.requests import Inspection
from tests.conftest import ROOT
from tests.registered import register
from tests.test_layers import HALF, INSPECTION, INT8, LINEAR, NAMES, layer

Captured = pytest.CaptureFixture[str]
WHOLE = Inspection(
    (*INSPECTION.layers,),
    INSPECTION.milliseconds,
    1 << 20,
    ("images", "output0"),
    {"reformat": 0.4, "conv": 2.5, "split": 0.25, "attention": 1.25, "shape": 0.0},
    50,
)


def of(*layers: dict[str, Any], **milliseconds: float) -> Inspection:
    return Inspection(layers, milliseconds, 0)


def sized(name: str, channels: int, *reads: str, **more: Any) -> dict[str, Any]:
    made = layer(name, *reads, ParameterType="Convolution", **more)
    for tensor in (*made["Inputs"], *made["Outputs"]):
        tensor["Dimensions"] = [1, channels, 8, 8]
    return made


def test_layers_and_profile_are_as_trtexec_exports_them() -> None:
    info = json.loads(json.dumps(layer_info(WHOLE)))
    assert info == {"Layers": list(WHOLE.layers), "Bindings": ["images", "output0"]}
    count, *records = json.loads(json.dumps(profile(WHOLE)))
    assert count == {"count": 50}
    assert [record["name"] for record in records] == [each["Name"] for each in info["Layers"]]
    # The explorer takes records of four or five values for layers, and drops others.
    assert {len(record) for record in records} == {5}
    assert records[1] == {
        "name": "conv",
        "timeMs": 100.0,
        "averageMs": 2.0,
        "medianMs": 2.5,
        "percentage": 50.0,
    }
    assert sum(record["percentage"] for record in records) == pytest.approx(100)


def test_time_by_kind_the_longest_first() -> None:
    rows = summarize(WHOLE, "int8").rows()
    assert rows[0] == {"kind": "CaskConvolution", "layers": 2, "time": "2.250 ms", "share": "56.2%"}
    assert [row["kind"] for row in rows[1:]] == ["kgen", "Reformat", "ShapeHostToDevice"]
    named = summarize(of(layer("a", INT8, ParameterType="Convolution"), a=1.0), "int8")
    assert [kind.kind for kind in named.kinds] == ["Convolution"]


def test_reformatting_and_casts_are_told_apart() -> None:
    layout = layer("layout", HALF, writes=HALF, LayerType="Reformat")
    cast = layer("cast", LINEAR, writes=HALF, LayerType="Reformat")
    summary = summarize(of(layout, cast, layer("conv", HALF), layout=1, cast=1, conv=8), "fp16")
    assert (summary.reformats.layers, summary.reformats.share) == (2, 0.2)
    assert (summary.casts.layers, summary.casts.share) == (1, 0.1)
    assert summary.hints[0].startswith("2 layers only change layout or datatype: 2.000 ms, 20.0%")
    assert summary.hints[1].startswith("1 layers only change the datatype: 1.000 ms, 10.0%")
    small = summarize(of(layout, layer("conv", HALF), layout=1, conv=99), "fp16")
    assert not any("only change" in each for each in small.hints)


@pytest.mark.parametrize(
    ("precision", "reads", "told"),
    [
        ("int8", HALF, "1 layers of this INT8 engine read FP16: 1.000 ms, 10.0% of the time"),
        ("int8", LINEAR, "1 layers of this INT8 engine read FP32"),
        ("fp16", LINEAR, "1 layers of this FP16 engine read FP32"),
        ("fp16", INT8, ""),
        ("fp32", LINEAR, ""),
    ],
)
def test_what_runs_wider_than_was_asked_for(precision: str, reads: str, told: str) -> None:
    narrow = [layer(f"n{number}", INT8, writes=INT8) for number in range(9)]
    times = {f"n{number}": 1.0 for number in range(9)}
    summary = summarize(of(*narrow, layer("wide", reads), **times, wide=1.0), precision)
    hints = [hint for hint in summary.hints if "read F" in hint]
    assert [hint.startswith(told) for hint in hints] == ([True] if told else [])
    assert all("the longest is wide (CaskConvolution)" in hint for hint in hints)


def test_convolutions_that_waste_a_tensor_core() -> None:
    even = [sized(f"n{number}", 64, INT8, writes=INT8) for number in range(4)]
    times = {f"n{number}": 1.0 for number in range(4)}
    hints = summarize(
        of(*even, sized("odd", 24, INT8, writes=INT8), **times, odd=1.0), "int8"
    ).hints
    assert [hint for hint in hints if "multiple of 16 (20.0% of the time), odd for one" in hint]
    aligned = summarize(of(*even, sized("odd", 24, HALF, writes=HALF), **times, odd=1.0), "fp16")
    assert not any("multiple" in hint for hint in aligned.hints)
    ends = summarize(of(*even, sized("end", 32, INT8, writes=HALF), **times, end=1.0), "int8").hints
    assert any("1 convolutions read INT8 and write FP16 or FP32" in hint for hint in ends)


def test_one_layer_and_names_alone_stand_out() -> None:
    hints = summarize(NAMES, "int8").hints
    assert hints[0].startswith("TensorRT tells only the names of this engine's layers")
    assert hints[1] == "conv alone takes 75.0% of the time"
    assert summarize(Inspection((), {}, 0), "int8").hints == ()


def test_the_command_writes_a_folder_and_says_what_stands_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    register("m/t/int8")
    monkeypatch.setattr(action, "inspect_engine", lambda spec, engine: WHOLE)
    assert main(["inspect", "m/t/int8", "--out", "of/int8"]) == 0
    shown = capsys.readouterr().out
    assert "By kind" in shown and "Hint: conv alone takes 50.0% of the time" in shown
    assert shown.endswith("Written: of/int8\n")
    files = {path.name: json.loads(path.read_text()) for path in Path("of/int8").iterdir()}
    assert sorted(files) == ["layers.json", "profile.json", "summary.json"]
    assert files["summary.json"]["reformats"]["layers"] == 1
    assert files["summary.json"]["kinds"][0]["kind"] == "CaskConvolution"
