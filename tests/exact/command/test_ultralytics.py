"""An engine for Ultralytics: its header, its input and its NMS."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import enginery.actions.export_ultralytics
from enginery.errors import EngineryError, IntegrityError
from enginery.project.paths import model_folder
from enginery.registry.manifest import Manifest
from enginery.registry.records import parse
from enginery.registry.store import Engine, engine_in
from enginery.registry.task_metadata import read_task_metadata
from enginery.system.files import read_json, write_json
from enginery.vision.tasks import TaskMetadata
from tests.registered import register


@pytest.fixture
def engine() -> Engine:
    found = register("m/server/fp16")
    write_json(model_folder("m", "export") / "record.json", found.manifest.steps.export.to_json())
    return found


def test_a_plan_goes_behind_its_header(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        enginery.actions.export_ultralytics, "embedded_nms", lambda given: given is not engine
    )
    out = Path("m.engine")
    enginery.actions.export_ultralytics.export_ultralytics(engine, out)
    expected = {
        "args": {"dynamic": False, "nms": False},
        "batch": 1,
        "channels": 3,
        "description": "m fp16, built by Enginery",
        "end2end": True,
        "imgsz": [160, 160],
        "names": {"0": "disc"},
        "stride": 32,
        "task": "detect",
    }
    header = json.dumps(expected, sort_keys=True).encode()
    assert out.read_bytes() == len(header).to_bytes(4, "little") + header + b"plan" * 100
    engine.plan.write_bytes(b"plaN" * 100)
    with pytest.raises(IntegrityError):
        enginery.actions.export_ultralytics.export_ultralytics(engine, Path("n.engine"))
    assert not Path("n.engine").exists()


def test_the_header_of_other_engines() -> None:
    shapes = {"min": [1, 3, 32, 64], "opt": [4, 3, 64, 96], "max": [8, 3, 128, 192]}
    export = {"task": "pose", "stride": 64, "names": {"0": "a", "1": "b"}, "kpt_shape": [5, 3]}
    whole = read_json(register("m/server/int8").folder / "manifest.json")
    whole["steps"]["export"] |= export
    whole["steps"]["build"]["recipe"]["parameters"] |= {"profile": shapes, "dla_core": 0}
    manifest = parse(json.dumps(whole).encode(), Manifest)
    found = enginery.actions.export_ultralytics.metadata(manifest, None)
    assert found == {
        "description": "m int8, built by Enginery",
        "task": "pose",
        "stride": 64,
        "names": {0: "a", 1: "b"},
        "batch": 4,
        "channels": 3,
        "imgsz": [64, 96],
        "end2end": False,
        "args": {"dynamic": True, "nms": None},
        "kpt_shape": [5, 3],
        "dla": 0,
    }
    found = enginery.actions.export_ultralytics.metadata(manifest, True)
    assert (found["end2end"], found["args"]["nms"]) == (False, True)


def test_engines_that_yolo_cannot_load() -> None:
    check = enginery.actions.export_ultralytics._check_runtime
    check(register("m/server/fp16"))
    with pytest.raises(EngineryError) as error:
        check(register("m/rtx/fp16", runtime="tensorrt_rtx"))
    assert error.value.what == "m/rtx/fp16 is of TensorRT-RTX, and YOLO() loads engines of TensorRT"
    assert error.value.cure == (
        "Build it for a target of runtime tensorrt; `enginery predict` runs it as it is"
    )
    with pytest.raises(EngineryError) as error:
        check(register("m/any/fp16", version_compatible=True))
    assert error.value.what == (
        "m/any/fp16 is version compatible: it brings code of its own, which YOLO() does not let run"
    )
    assert (
        error.value.cure
        == "Build it without version_compatible; `enginery predict` runs it as it is"
    )


def test_yolo_feeds_an_input_by_its_name(engine: Engine) -> None:
    def check(name: str, *outputs: str) -> None:
        runner: Any = SimpleNamespace(input=name, outputs=outputs)
        enginery.actions.export_ultralytics._check_names(engine, runner)

    check("images", "a", "b")
    with pytest.raises(EngineryError) as error:
        check("input", "a")
    assert error.value.what == (
        "m/server/fp16: its input is called input, and YOLO() feeds only one called images"
    )
    assert error.value.cure == (
        "Rename it in the ONNX and build again; `enginery predict` runs the engine as it is"
    )
    with pytest.raises(EngineryError) as error:
        check("images", "b", "a")
    assert error.value.what == (
        "m/server/fp16: its outputs are b, a, and YOLO() takes them in the order of their names"
    )
    assert error.value.cure == (
        "Rename them in the ONNX and build again; `enginery predict` runs the engine as it is"
    )


def own_graph(*operators: str) -> None:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "h", "w"])
    nodes = [
        helper.make_node(name, ["images"], [f"y{index}"]) for index, name in enumerate(operators)
    ]
    kind = {"NonZero": TensorProto.INT64}.get(operators[0], TensorProto.FLOAT)
    output = helper.make_tensor_value_info("y0", kind, None)
    body = helper.make_graph(nodes, "g", [image], [output])
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, model_folder("m", "export") / "model.onnx")


@pytest.mark.parametrize(
    ("operators", "final", "nms"),
    [
        (("Relu", "Abs"), True, False),
        (("Relu", "NonZero"), True, True),
        (("Relu", "NonZero"), False, None),
    ],
)
def test_only_an_own_graph_can_bring_its_nms(
    monkeypatch: pytest.MonkeyPatch, operators: tuple[str, ...], final: bool, nms: bool | None
) -> None:
    asked: list[Any] = []
    export = enginery.actions.export_ultralytics
    monkeypatch.setattr(export, "_check_names", lambda *given: asked.append(given))
    monkeypatch.setattr(export, "_is_final", lambda *given: asked.append(given) or final)
    monkeypatch.setattr(export, "check_original", asked.append)
    assert export.embedded_nms(register("m/server/fp16")) is None
    assert asked == []
    engine = register("m/server/fp32", profile={k: [1, 3, 32, 64] for k in ("min", "opt", "max")})
    path = engine.folder / "manifest.json"
    manifest = read_json(path)
    manifest["steps"]["export"]["recipe"]["parameters"]["source"] = "own.onnx"
    write_json(path, manifest)
    own = engine_in(engine.folder)
    assert own is not None
    model_folder("m", "export").mkdir(parents=True)
    own_graph(*operators)
    assert export.embedded_nms(own) is nms
    assert asked[0] == own
    (first, runner), (second, same) = asked[1:]
    assert (first, second, same is runner) == (own, own, True)
    assert (runner.input, tuple(runner.size)) == ("images", (32, 64))


def test_what_is_final_is_told_by_an_image(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    for name, value in (("b", 20), ("a", 10)):
        Path("data/images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"data/images/{name}.png", np.full((8, 16, 3), value, np.uint8))
    head = SimpleNamespace(task="detect", end2end=lambda shapes: asked.append(shapes) or "final")
    monkeypatch.setattr(
        enginery.actions.export_ultralytics, "read_task_metadata", {"m": head}.__getitem__
    )

    def run(image: Any) -> Any:
        asked.append(image)
        return [np.zeros((1, 300, 6)), np.zeros((1, 2))]

    runner: Any = SimpleNamespace(run=run, size=(8, 16))
    assert enginery.actions.export_ultralytics._is_final(engine, runner) == "final"
    image, shapes = asked
    assert image.shape == (3, 8, 16)
    assert float(image.max()) == pytest.approx(10 / 255)
    assert shapes == [(1, 300, 6), (1, 2)]


def test_a_models_head_is_read(engine: Engine) -> None:
    assert read_task_metadata("m") == TaskMetadata("detect", {0: "disc"}, None)
    path = model_folder("m", "export") / "record.json"
    write_json(path, {**read_json(path), "task": "pose", "kpt_shape": [5, 3]})
    assert read_task_metadata("m") == TaskMetadata("pose", {0: "disc"}, (5, 3))
