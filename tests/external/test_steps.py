"""Every step takes a large graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginery.errors import DiskFullError, ModelError
from enginery.project.load import load_spec
from enginery.project.paths import model_folder
from enginery.project.stage import Stage
from enginery.system.files import read_json
from tests.conftest import copy_checkout, small, use_onnx
from tests.external.common import MODEL, merged, split
from tests.stages import fingerprinted, stages_of


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = copy_checkout(tmp_path / "checkout ü")
    monkeypatch.chdir(root)
    params = yaml.safe_load(Path("params.yaml").read_text())
    small(params)
    params["models"][MODEL].update(height=64, width=96)
    params["matrix"]["targets"] = ["rtx-ada"]
    use_onnx(params, "data/own.onnx")
    Path("params.yaml").write_text(yaml.safe_dump(params))
    yield root


def test_every_step_takes_a_large_graph_and_makes_what_it_makes_of_a_small_one(
    whole: Path,
    checkout: Path,
    large: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasks.build import build as build_step
    from tasks.calibrate import calibrate
    from tasks.calibration_images import list_calibration_images
    from tasks.demo_data import demo_data
    from tasks.export import export_model
    from tasks.images import list_validation_images
    from tasks.quantize import quantize
    from tasks.register import register
    from tasks.simplify import simplify_model
    from tasks.validate import validate

    split(whole, Path("data"))
    work: dict[str, Callable[[Stage], None]] = {
        "demo-data": demo_data,
        "export": export_model,
        "images": list_validation_images,
        "simplify": simplify_model,
        "calibration-images": list_calibration_images,
        "calibrate": calibrate,
        "quantize": quantize,
        "validate": validate,
        "build": build_step,
        "register": register,
    }
    spec = load_spec()
    made: dict[bool, dict[str, bytes]] = {}
    for on in (True, False):
        large(on)
        fingerprinted()
        for step in stages_of(spec):
            if step.step in work and (
                on
                or step.step
                not in ("demo-data", "images", "calibration-images", "validate", "register")
            ):
                work[step.step](step)
        large(False)
        folders = [
            model_folder(MODEL, part)
            for part in ("export", "simplify", "fp32/graph", "fp16/graph", "int8/graph")
        ]
        assert [(folder / "model.onnx.data").exists() for folder in folders] == [on] * 5
        made[on] = {
            str(folder): merged(folder / "model.onnx", Path("merged.onnx")) for folder in folders
        }
        made[on]["cache"] = (model_folder(MODEL, "calibration") / "calibration.cache").read_bytes()
        made[on] |= {
            str(path): path.read_bytes() for path in Path("artifacts/build").rglob("model.plan")
        }
        if on:
            assert read_json(model_folder(MODEL, "simplify") / "record.json")["simplified"]
    assert len(made[True]) == 9
    assert {name for name in made[True] if made[True][name] != made[False][name]} == set()
    assert len(list(Path("artifacts/engines").rglob("model.plan"))) == 3


def test_data_that_changes_during_a_run_is_noticed(whole: Path, checkout: Path) -> None:
    from tasks.export import export_model

    split(whole, Path("data"))
    fingerprinted()
    with Path("data/model.onnx_data").open("r+b") as file:
        file.write(b"!")
    with pytest.raises(
        ModelError, match=r"the data files of data/own.onnx changed since this run began. Run again"
    ):
        export_model(Stage("export", MODEL))
    assert not (model_folder(MODEL, "export")).exists()


def test_a_simplifier_without_room_is_no_reason_to_go_on_without_it(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another graph for want of room would be another engine."""
    from enginery.graphs import simplify as module

    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    assert "onnxsim ended with 1" in module._run(whole, tmp_path / "out.onnx", 10)
    child = tmp_path / "child"
    child.write_text("#!/bin/sh\nexit 28\n")
    child.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(child))
    with pytest.raises(DiskFullError, match=f"no room to write {tmp_path}/out.onnx"):
        module._run(whole, tmp_path / "out.onnx", 10)
