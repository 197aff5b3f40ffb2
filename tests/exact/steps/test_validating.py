"""The step that validates a graph on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tasks.validate
from enginery.evaluation import validation
from enginery.evaluation.compare import OutputError
from enginery.evaluation.validation import GraphReport
from enginery.project.stage import Stage
from enginery.system.files import write_json
from enginery.vision import tasks as head
from enginery.vision.score import Metrics
from tests.exact.steps.common import MODEL, read, write_recipe


def test_a_graphs_validation_is_recorded(said: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    step = Stage("validate", MODEL, precision="fp16")
    asked: list[Any] = []
    metrics = [Metrics(head.MAP, value, 0.9, {"a": value, "b, c": 1.0}) for value in (0.75, 0.5)]
    report = GraphReport(OutputError(0.1, 0.01, 0, 0), *metrics)
    monkeypatch.setattr(validation, "validate_graph", lambda *given: asked.append(given) or report)
    monkeypatch.setattr(tasks.validate, "_first_overflow", lambda job: {})
    monkeypatch.setattr(tasks.validate, "progress", lambda *given: asked.append(given))
    write_json(
        Path(f"artifacts/models/{MODEL}/export/record.json"),
        {"task": "detect", "names": {"0": "a", "1": "b"}},
    )
    write_json(
        Path(f"artifacts/models/{MODEL}/images.json"),
        {"images": {"a": "1", "b": "2"}, "tree_sha256": "t"},
    )
    made = write_recipe(step, validation="set", task="detect", height=32, width=64)
    tasks.validate.validate(step)
    [(first, second, folder, judged, told, size, kept)] = asked
    place = Path(f"artifacts/models/{MODEL}")
    assert (first, second) == (place / "export/model.onnx", place / "fp16/graph/model.onnx")
    assert (folder, size, judged) == (
        Path("set"),
        (32, 64),
        head.TaskMetadata("detect", {0: "a", 1: "b"}),
    )
    assert kept == 3
    told(3, 4)
    assert asked[1] == ("images", 3, 4)
    assert read(f"{place}/fp16/validation.json") == {
        "recipe": made,
        "report": report.to_dict(),
        "images_sha256": "t",
        "images": 2,
    }
    assert read(f"{place}/fp16/metrics.json") == {
        "map50_95": 0.5,
        "map50": 0.9,
        "lost": 0.25,
        "rms_relative": 0.01,
    }
    assert Path(f"{place}/fp16/classes.csv").read_text().splitlines() == [
        "class,accuracy,lost",
        "a,0.500000,0.250000",
        '"b, c",1.000000,0.000000',
    ]
    assert read(f"{place}/fp16/samples.json") == {"samples": []}
    assert said == [("mAP50-95 0.5000, FP32 original 0.7500", "info")]
