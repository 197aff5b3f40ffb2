"""Networks of torchvision, and models that segment, become engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from enginery import sources
from enginery.actions.export_ultralytics import export_ultralytics
from enginery.errors import DataError, EngineryError, ModelError
from enginery.evaluation.judges.pixels import PixelScore, check_masks, classes_of
from enginery.evaluation.samples import Sample, SampleFile, samples_file
from enginery.evaluation.validation import validate_graph
from enginery.pipeline.step import load_step
from enginery.project.paths import model_folder
from enginery.project.stage import Stage
from enginery.registry.records import read_record
from enginery.registry.store import find
from enginery.sources.export import ExportSettings
from enginery.sources.ultralytics_compat import import_torchvision, silence
from enginery.system.files import sha256
from enginery.vision.tasks import Judging, TaskMetadata
from tests.judges.common import SIDE, THREE, draw, project, refused, run_steps, save, state
from tests.tasks.test_engines import check_engine_validation


def samples_of(precision: str) -> tuple[Sample, ...]:
    samples = read_record(samples_file(model_folder("tiny", precision)), SampleFile).samples
    assert len(samples) == 3
    return samples


def test_a_network_of_torchvision_becomes_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With depthwise convolutions, hard swish and squeeze-and-excitation."""
    weights = save({"model": state("mobilenet_v3_small")}, tmp_path / "mobilenet_v3_small-7.pth")
    for name in ("cat", "ant", "bee"):  # the same ones: a third of the guesses is right
        draw(tmp_path / "data" / name, range(2))
    draw(tmp_path / "calibration/ant", range(10, 14))
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\n")
    model = {
        "source": weights.name,
        "architecture": "mobilenet_v3_small",
        "task": "classify",
        "height": SIDE,
        "width": SIDE,
        "validation": "data",
        "names": "names.txt",
    }
    project(tmp_path, monkeypatch, model)
    run_steps()
    manifest = find("int8").manifest
    assert set(manifest.metrics) == {"top1", "top5", "reference_top1", "rms_relative"}
    assert manifest.steps.export.names == {"0": "ant", "1": "bee", "2": "cat"}
    how = manifest.steps.validation.recipe.to_json()["parameters"]["judging"]["preprocess"]
    assert how == {
        "mode": "resize_crop",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    report = manifest.steps.validation.report
    assert set(report.reference.per_class) == {"ant", "bee", "cat"}
    [first, *_] = samples_of("int8")
    [guess] = first.original
    assert guess.name in ("ant", "bee", "cat") and 1 / 3 <= (guess.confidence or 0) < 1
    load_step("validate")(Stage("validate", "tiny", precision="fp32"))
    for step in ("build", "register"):
        load_step(step)(Stage(step, "tiny", "rtx-ampere", "fp32"))
    check_engine_validation(monkeypatch, (SIDE, SIDE))
    with pytest.raises(EngineryError, match="is of TensorRT-RTX, and YOLO"):
        export_ultralytics(find("fp32"), tmp_path / "out.engine")
    again = sources.find(weights).export(weights, settings("classify"), tmp_path / "again.onnx")
    assert again["architecture"] == "mobilenet_v3_small", "by the file's name"
    assert sha256(tmp_path / "again.onnx") == sha256(model_folder("tiny", "export") / "model.onnx")


def settings(task: str, **more: Any) -> ExportSettings:
    return ExportSettings(task, (SIDE, SIDE), names=("ant", "bee", "cat"), **more)


def test_weights_that_are_not_torchvisions_are_refused(tmp_path: Path) -> None:
    small = state("squeezenet1_1")
    weights = save(small, tmp_path / "squeezenet1_1.pth")
    source, out = sources.find(weights), tmp_path / "out.onnx"

    def export(path: Path, task: str = "classify", **more: Any) -> str:
        return refused(lambda: source.export(path, settings(task, **more), out))

    assert "no.pth: no such file" in export(tmp_path / "no.pth")
    assert "is a classify model, not detect" in export(weights, "detect")
    assert "has not the weights of resnet18: " in export(weights, architecture="resnet18")
    assert "torchvision has no network 'resnet17'" in export(weights, architecture="resnet17")
    detector = "fasterrcnn_resnet50_fpn is one of torchvision's detection models"
    assert detector in export(weights, architecture="fasterrcnn_resnet50_fpn")
    whole = import_torchvision().models.get_model("squeezenet1_1", weights=None)
    with silence():
        pickled = save(whole, tmp_path / "squeezenet1_1-whole.pth")
    assert "no state dict that loads without running code" in export(pickled)
    assert "holds no state dict" in export(save([1], tmp_path / "squeezenet1_1-list.pth"))
    odd = weights.rename(tmp_path / "best.pth")
    assert "its name tells no network of torchvision's" in export(odd)
    few = refused(
        lambda: source.export(
            odd, ExportSettings("classify", names=("a",), architecture="squeezenet1_1"), out
        )
    )
    assert "has 3 classes, and `names` in params.yaml 1" in few
    assert not out.exists()


# --- semantic segmentation


def test_a_model_that_segments_becomes_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "lraspp_mobilenet_v3_large"
    save(state(name), tmp_path / f"{name}.pth")
    draw(tmp_path / "data/images", range(3))
    draw(tmp_path / "calibration/images", range(4, 8))
    (tmp_path / "data/masks").mkdir()
    for seed in range(3):
        mask = np.full((96, 96), 255, np.uint8)
        mask[:50] = seed
        cv2.imwrite(str(tmp_path / f"data/masks/{seed}.png"), mask)
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    model = {
        "source": f"{name}.pth",
        "architecture": name,
        "task": "semantic",
        "height": SIDE,
        "width": SIDE,
        "validation": "data",
        "names": "names.txt",
        "preprocess": {"preset": "imagenet", "mode": "stretch"},
    }
    project(tmp_path, monkeypatch, model)
    run_steps(("fp16",))
    report = find("fp16").manifest.steps.validation.report
    assert report.metric.key == "miou" and 0 < report.reference.value < 1
    assert set(report.reference.per_class) == {"a", "b", "c"}
    assert all(region.outline for sample in samples_of("fp16") for region in sample.original)
    (tmp_path / "data/masks").rename(tmp_path / "nowhere")
    onnx = model_folder("tiny", "export") / "model.onnx"
    how = Judging("original", preprocess=None)
    head = TaskMetadata("semantic", THREE, judging=how)
    agrees = validate_graph(onnx, onnx, Path("data"), head, lambda *_: None, (SIDE, SIDE))
    assert agrees.reference.value == agrees.candidate.value == 1
    with pytest.raises(DataError, match=r"masks/0\.png is missing: it has the classes"):
        validate_graph(
            onnx, onnx, Path("data"), TaskMetadata("semantic", THREE), lambda *_: None, (SIDE, SIDE)
        )


def test_pixels_are_counted_by_class() -> None:
    score = PixelScore(TaskMetadata("semantic", THREE), (2, 2))
    truth = np.array([[0, 0], [1, 255]], np.uint8)
    score.add([np.array([[[0, 1], [1, 2]]])], truth)
    metrics = score.metrics()
    assert metrics.per_class == {"a": 0.5, "b": 0.5}
    assert (metrics.value, metrics.secondary) == (0.5, pytest.approx(2 / 3))
    logits = np.zeros((1, 3, 1, 2), np.float32)
    logits[0, 2, 0, 1] = 1
    seen = classes_of([logits], TaskMetadata("semantic", THREE), (2, 4))
    assert seen.tolist() == [[0, 0, 2, 2]] * 2
    with pytest.raises(ModelError, match=r"\(1, 4, 2, 2\) is not that of a semantic model with 3"):
        classes_of([np.zeros((1, 4, 2, 2))], TaskMetadata("semantic", THREE), (2, 2))


def test_masks_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    images = draw(tmp_path / "images", range(1))
    (tmp_path / "masks").mkdir()
    mask = tmp_path / "masks/0.png"
    for content, words in (
        (np.full((4, 4), 7, np.uint8), r"0\.png has class 7, and the model has 3 classes"),
        (np.zeros((4, 4, 3), np.uint8), r"uint8 values of the shape \(4, 4, 3\)"),
    ):
        cv2.imwrite(str(mask), content)
        with pytest.raises(DataError, match=words):
            check_masks((images / "0.png",), 3)
    mask.write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read as a mask"):
        check_masks((images / "0.png",), 3)
