"""Graphs of any inputs and outputs, classes, and a team's own metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginery.errors import EngineryError, GateError, ModelError
from enginery.evaluation.gate import failures
from enginery.evaluation.judges.classes import ClassScore
from enginery.evaluation.judges.own import load_metric
from enginery.evaluation.judges.tensors import TensorScore
from enginery.evaluation.runners import GraphRunner
from enginery.evaluation.validation import validate_graph
from enginery.pipeline.step import load_step
from enginery.project.stage import Stage
from enginery.registry.store import find
from enginery.vision.tasks import Judging, TaskMetadata
from tests.judges.arrays import write_arrays, write_fusion
from tests.judges.common import change_model, project, refused, run_steps
from tests.stages import fingerprinted


def test_a_graph_with_two_inputs_becomes_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fusion(tmp_path / "fusion.onnx")
    write_arrays(tmp_path / "data", range(4))
    write_arrays(tmp_path / "calibration", range(4, 9))
    limits = {"logits": {"rms": 0.9, "max": 9, "cosine": 0.5}}
    model = {"source": "fusion.onnx", "task": "tensors", "validation": "data", "outputs": limits}
    project(tmp_path, monkeypatch, model)
    run_steps()
    report = find("int8").manifest.steps.validation.report
    assert report.metric.key == "cosine" and 0.9 < report.candidate.value <= 1
    assert set(report.candidate.per_class) == set(report.outputs) == {"logits", "features"}
    assert find("int8").manifest.built.profile is None
    assert find("int8").manifest.steps.quantize.quantized
    change_model(outputs={"logits": {"cosine": 1}, "boxes": {"rms": 0.1}})
    with pytest.raises(GateError) as error:
        load_step("register")(Stage("register", "tiny", "rtx-ampere", "int8"))
    assert "output logits: cosine 0.9" in str(error.value) and "1 is asked for" in str(error.value)
    assert "`outputs` names boxes, and the model has features, logits" in str(error.value)


def test_open_sizes_of_arrays_need_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fusion(tmp_path / "fusion.onnx", open_batch=True)
    write_arrays(tmp_path / "data", range(2))
    write_arrays(tmp_path / "calibration", range(4, 8))
    model: dict[str, Any] = {"source": "fusion.onnx", "task": "tensors", "validation": "data"}
    project(tmp_path, monkeypatch, model)
    for step in ("export", "simplify"):
        load_step(step)(Stage(step, "tiny"))
    load_step("quantize")(Stage("quantize", "tiny", precision="fp32"))
    build = Stage("build", "tiny", "rtx-ampere", "fp32")
    with pytest.raises(ModelError, match=r"image has open sizes, \['n', 3, 32, 32\]: give them as"):
        load_step("build")(build)
    images = [[1, 3, 32, 32], [2, 3, 32, 32], [4, 3, 32, 32]]
    change_model(shapes={"image": images, "meta": [[1, 6], [2, 6], [4, 6]]})
    load_step("build")(build)


def test_an_output_that_is_not_finite_is_as_far_as_can_be() -> None:
    score = TensorScore(["x", "y"])
    score.add([np.array([[1.0, np.nan]]), np.zeros((1, 2))], [np.ones((1, 2)), np.zeros((1, 2))])
    score.add([np.array([[1.0, -1.0]]), np.ones((1, 2))], [np.ones((1, 2)), np.ones((1, 2))])
    metrics = score.metrics()
    assert metrics.per_class == {"x": 0.0, "y": pytest.approx(1.0)}
    assert (metrics.value, metrics.secondary) == (0.0, 0.0)
    assert score.closeness()["x"]["max_abs"] == 2.0


# --- classes, and a team's own metric


def test_first_guesses_and_the_first_five_count() -> None:
    names = {number: str(number) for number in range(7)}
    score = ClassScore(TaskMetadata("classify", names))
    order = np.array([[6.0, 5, 4, 3, 2, 1, np.nan]])
    for truth in (0, 4, 5, 6):
        score.add([order], truth)
    metrics = score.metrics()
    assert (metrics.value, metrics.secondary) == (0.25, 0.5)
    assert metrics.per_class == {"0": 1.0, "4": 0.0, "5": 0.0, "6": 0.0}


METRIC = """
import numpy as np

def score(outputs, sample):
    return float(np.mean(outputs["logits"])) + len(sample.name)

def fails(outputs, sample):
    raise ZeroDivisionError("by hand")

def nan(outputs, sample):
    return float("nan")

class Whole:
    def __init__(self):
        self.seen = []
    def add(self, outputs, sample):
        self.seen.append(outputs["features"].shape)
    def result(self):
        return len(self.seen) + 0.5

class Half:
    def add(self, outputs, sample): ...

number = 3
"""


def test_a_teams_own_metric(tmp_path: Path) -> None:
    graph = write_fusion(tmp_path / "fusion.onnx")
    write_arrays(tmp_path / "data", range(3))
    mine = tmp_path / "mine.py"
    mine.write_text(METRIC)

    def judged(name: str) -> float:
        head = TaskMetadata("tensors", {}, judging=Judging(metric=f"{mine}:{name}"))
        report = validate_graph(graph, graph, tmp_path / "data", head, lambda *_: None)
        assert report.reference == report.candidate
        return report.candidate.value

    runner = GraphRunner(graph, (1, 1), TaskMetadata("tensors", {}).feeding((1, 1)))
    rows = [runner.feeder.row(tmp_path / f"data/{number}.npz") for number in range(3)]
    expected = np.mean([runner.run(row)[0].mean() for row in rows]) + len("0.npz")
    assert judged("score") == pytest.approx(expected)
    assert judged("Whole") == 3.5
    assert "mine.py:fails failed for" in (words := refused(lambda: judged("fails")))
    assert "0.npz: ZeroDivisionError: by hand. Correct the function" in words
    assert "returned nan for" in refused(lambda: judged("nan"))
    assert "has no number" in refused(lambda: load_metric(f"{mine}:number"))
    assert "a class needs `add" in refused(lambda: load_metric(f"{mine}:Half"))
    assert "no.py is not there" in refused(lambda: load_metric(f"{tmp_path}/no.py:score"))
    mine.write_text("import nothing_of_this_name")
    assert "cannot be loaded: ModuleNotFoundError" in refused(lambda: load_metric(f"{mine}:score"))


def test_a_score_may_fall_as_far_as_is_allowed() -> None:
    closeness = {"nan_count": 0, "inf_count": 0, "rms_relative": 0.0}
    scores = [{"score": value, "score_worst": value, "per_class": {}} for value in (-0.3, -0.32)]
    report = {"closeness": closeness, "reference": scores[0], "candidate": scores[1]}
    assert failures(report, {"rms_relative": 0.1, "score_drop": 0.03}) == []
    [reason] = failures(report, {"rms_relative": 0.1, "score_drop": 0.01})
    assert reason == "score -0.3200 against -0.3000 of the FP32 original, a drop of 0.01 is allowed"


def test_a_metric_is_part_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fusion(tmp_path / "fusion.onnx")
    (tmp_path / "mine.py").write_text(METRIC)
    own = {"task": "tensors", "metric": "mine.py:score", "validation": "data"}
    project(tmp_path, monkeypatch, {"source": "fusion.onnx", **own})
    recipe = Path("artifacts/recipes/validate/tiny-fp16.json")
    before = recipe.read_text()
    (tmp_path / "mine.py").write_text(METRIC + "# changed\n")
    fingerprinted()
    assert recipe.read_text() != before
    (tmp_path / "mine.py").unlink()
    with pytest.raises(EngineryError, match=r"the metric mine\.py:score: mine\.py is not there"):
        fingerprinted()
