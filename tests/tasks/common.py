"""How each task's tiny model is exported, and what Enginery measures of it."""

from __future__ import annotations

from pathlib import Path

from enginery.evaluation.validation import GraphReport, validate_graph
from enginery.sources.export import ExportSettings
from enginery.vision.tasks import TaskMetadata
from tests.conftest import ROOT
from tests.tiny import KEYPOINTS, NAMES, SIDE

DEMO = ROOT / "data/demo/yolov8n-shapes.pt"
LARGEST = {
    "fp32": 1e-5,
    "fp16": 0.02,
    "int8": 0.3,
}  # random weights make more of an error than trained ones


def settings(task: str) -> ExportSettings:
    return ExportSettings(task, (SIDE, SIDE), 1, False, 17)


def head(task: str) -> TaskMetadata:
    return TaskMetadata(task, NAMES, KEYPOINTS if task == "pose" else None)


def quiet(done: int, total: int) -> None: ...


def measured(onnx: Path, data: Path, what: TaskMetadata) -> GraphReport:
    return validate_graph(onnx, onnx, data, what, quiet)
