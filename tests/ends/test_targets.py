"""Targets that ask for pixels in and detections out, in vain or not, and who else hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginery.actions.export_deepstream import export_deepstream
from enginery.actions.export_triton import Signature, Tensor, config, plans_by_capability
from enginery.actions.export_ultralytics import export_ultralytics
from enginery.actions.predict import PredictionRequest, _confidence, predict
from enginery.actions.signature import _with_ends
from enginery.errors import ConfigError, EngineryError
from enginery.project.load import load_spec
from enginery.report.page import _what
from tests.conftest import ROOT
from tests.registered import enter, records, register


def params(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["targets"]["h200"] = {"runtime": "tensorrt"}
    content["matrix"]["targets"] = ["rtx-ada", "h200"]
    content["targets"] = {name: content["targets"][name] for name in ("rtx-ada", "h200")}
    change(content)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "params.yaml"


MODEL = "yolov8n-shapes"
DETECTIONS, PIXELS_IN = {"output": "detections"}, {"input": "uint8"}
MISTAKES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("nms: only `output: detections` has it", {"nms": {"iou": 0.5}}, {}),
    ("calibration: 'native': TensorRT would", {**PIXELS_IN, "calibration": "native"}, {}),
    ("refittable: true: an engine with NMS", {**DETECTIONS, "refittable": True}, {}),
    ("output: 'detections': yolov8n-shapes is of task", DETECTIONS, {"task": "segment"}),
    ("output: 'detections': the metric of", DETECTIONS, {"metric": "mine.py:score"}),
    ("input: 'uint8': the graph itself", PIXELS_IN, {"preprocess": {"dtype": "uint8"}}),
    ("input: 'uint8': the graph's layout", PIXELS_IN, {"preprocess": {"layout": "nhwc"}}),
    ("nms.confidence: ", {**DETECTIONS, "nms": {"confidence": 2}}, {}),
]


@pytest.mark.parametrize(("message", "target", "model"), MISTAKES)
def test_targets_that_ask_in_vain(
    tmp_path: Path, message: str, target: dict[str, Any], model: dict[str, Any]
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["targets"]["h200"].update(target)
        content["models"][MODEL].update(model)

    with pytest.raises(ConfigError) as error:
        load_spec(params(tmp_path, change))
    assert f"targets.h200.{message}" in str(error.value)


def test_tensorrt_rtx_has_no_nms(tmp_path: Path) -> None:
    path = params(tmp_path, lambda content: content["targets"]["rtx-ada"].update(DETECTIONS))
    with pytest.raises(ConfigError, match="output: 'detections': only runtime tensorrt has this"):
        load_spec(path)


def test_triton_is_told_of_the_ends(tmp_path: Path) -> None:
    engine = register("m/h200/fp16", tmp_path, pixels={}, nms={"detections": 9})
    usual = Signature(
        (Tensor("images", "FLOAT", (1, 3, 160, 160)),), (Tensor("o", "FLOAT", (1, 7, 9)),)
    )
    signature = _with_ends(usual, engine, "images")
    text = config("m", plans_by_capability([engine]), signature)
    assert 'name: "pixels" data_type: TYPE_UINT8 dims: [ 1, 3, 160, 160 ]' in text
    assert "is_non_linear_format_io: true" in text
    assert 'name: "detection_boxes" data_type: TYPE_FP32 dims: [ 1, 9, 4 ]' in text
    assert 'name: "num_detections" data_type: TYPE_INT32 dims: [ 1, 1 ]' in text


def test_software_that_feeds_floats_gets_no_engine_that_takes_pixels(tmp_path: Path) -> None:
    engine = register("m/h200/fp16", tmp_path, pixels={}, nms={})
    with pytest.raises(EngineryError, match="takes pixels or gives detections by itself, and YOLO"):
        export_ultralytics(engine, tmp_path / "x.engine")
    with pytest.raises(EngineryError, match="takes uint8, and nvinfer feeds floats"):
        export_deepstream(engine, tmp_path / "deepstream")


def test_what_an_engine_dropped_is_not_shown(tmp_path: Path) -> None:
    engine, image = register("m/h200/fp16", tmp_path, nms={"confidence": 0.3}), tmp_path / "a.png"
    request = PredictionRequest((image,), tmp_path, 0.25, 0.7)
    assert _confidence(engine.built, replace(request, confidence=None)) == 0.3
    assert (
        _confidence(register("m/h200/int8", tmp_path).built, replace(request, confidence=None))
        == 0.25
    )
    with pytest.raises(EngineryError, match=r"--confidence 0.25: .* drops what is below 0.3"):
        list(predict(load_spec(ROOT / "params.yaml"), engine, request))


def test_show_tells_of_the_ends_and_of_what_tensorrt_chose(tmp_path: Path) -> None:
    plan = tmp_path / "some.plan"
    plan.write_bytes(b"plan")
    made_of = records(plan, pixels={}, nms={"detections": 9})
    made_of["build"] |= {
        "precisions": {"layers": {"fp16": 1.0}, "weights": {"fp16": 0.75, "fp32": 0.25}},
        "fp32_fallback": ["a", "b"],
    }
    lines = list(_what(enter("m/h200/fp16", plan, made_of, tmp_path)))
    assert "takes uint8 pixels, channels last; their normalization is in it" in lines
    assert "gives 9 detections at most: NMS is in it, confidence 0.25, iou 0.7" in lines
    assert "weights: 75.0% fp16, 25.0% fp32" in lines
    assert "2 layers fell back to fp32: a, b" in lines
