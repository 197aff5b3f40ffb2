"""Models of other kinds than Ultralytics': from their source to registered engines, and how their
outputs are judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from enginery import sources
from enginery.actions.export_ultralytics import export_ultralytics
from enginery.demo.scenes import scene
from enginery.errors import ConfigError, DataError, EngineryError, GateError, ModelError
from enginery.evaluation.gate import failures
from enginery.evaluation.judges.classes import ClassScore
from enginery.evaluation.judges.own import load_metric
from enginery.evaluation.judges.pixels import PixelScore, check_masks, classes_of
from enginery.evaluation.judges.tensors import TensorScore
from enginery.evaluation.runners import GraphRunner
from enginery.evaluation.validation import validate_graph
from enginery.pipeline.step import load_step
from enginery.project.paths import engine_folder, model_folder
from enginery.project.stage import Stage
from enginery.registry.manifest import read_manifest
from enginery.registry.store import find
from enginery.sources.export import ExportSettings
from enginery.sources.ultralytics_compat import import_torchvision, silence
from enginery.system.files import read_json, sha256
from enginery.vision.tasks import Judging, TaskMetadata
from tests.conftest import ROOT
from tests.stages import fingerprinted
from tests.tasks.test_engines import check_engine_validation

SIDE = 64
THREE = {0: "a", 1: "b", 2: "c"}


def state(name: str, classes: int = 3, seed: int = 0) -> dict[str, Any]:
    """Random weights of a network of torchvision's, whose normalisation fits real images."""
    import torch

    torch.manual_seed(seed)
    known = {"weights_backbone": None} if "lraspp" in name else {}
    network = import_torchvision().models.get_model(
        name, weights=None, num_classes=classes, **known
    )
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    pictures = np.stack([scene(seed, SIDE)[0] for seed in range(8)]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        network.train()(torch.from_numpy(pictures.astype(np.float32) / 255 * 4 - 2))
    found: dict[str, Any] = network.state_dict()
    return found


def save(content: Any, path: Path) -> Path:
    import torch

    torch.save(content, path)
    return path


def draw(folder: Path, seeds: range) -> Path:
    folder.mkdir(parents=True)
    for seed in seeds:
        cv2.imwrite(str(folder / f"{seed}.png"), scene(seed, 96)[0])
    return folder


def project(folder: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]) -> None:
    """params.yaml for a model, with calibration images in calibration/."""
    monkeypatch.chdir(folder)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"] = {"tiny": model}
    params["int8"] = {"tiny": {"calibration": "calibration", "minimum_images": 4}}
    params["matrix"].update(models=["tiny"], targets=["rtx-ampere"])
    loose = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.9}  # random weights make more of an error
    drops = dict.fromkeys(("top1_drop", "miou_drop", "cosine_drop", "score_drop"), 0.9)
    params["validation"] = {"rms_relative": loose, **drops}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    assert fingerprinted() == {}


def run_steps(precisions: tuple[str, ...] = ("fp16", "int8")) -> None:
    """From the source to registered engines of TensorRT-RTX."""
    for step in ("export", "images", "simplify", "calibration-images", "calibrate"):
        load_step(step)(Stage(step, "tiny"))
    load_step("quantize")(Stage("quantize", "tiny", precision="fp32"))
    for precision in precisions:
        for step in ("quantize", "validate"):
            load_step(step)(Stage(step, "tiny", precision=precision))
        for step in ("build", "register"):
            load_step(step)(Stage(step, "tiny", "rtx-ampere", precision))
        engine = find(precision)
        folder = engine_folder("tiny", "rtx-ampere", precision)
        assert read_manifest(folder / "manifest.json", engine.identity) == engine.manifest


# --- torchvision


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


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


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


# --- any inputs and outputs


def write_fusion(path: Path, open_batch: bool = False) -> Path:
    """An image and a vector in, two outputs: with depthwise and transposed convolutions, a layer
    norm and a softmax; one output is read inside, too.
    """
    import torch

    torch.manual_seed(0)

    class Fusion(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3, 2, 1),
                torch.nn.ReLU(),
                torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8),
                torch.nn.ReLU(),
                torch.nn.ConvTranspose2d(8, 8, 2, 2),
                torch.nn.AdaptiveAvgPool2d(2),
                torch.nn.Flatten(),
            )
            self.vector, self.norm = torch.nn.Linear(6, 32), torch.nn.LayerNorm(64)
            self.query, self.key = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
            self.head = torch.nn.Linear(64, 5)

        def forward(self, image: Any, meta: Any) -> Any:
            joined = torch.cat([self.image(image), self.vector(meta)], 1)
            tokens = self.norm(joined).reshape(-1, 8, 8)
            scores = self.query(tokens) @ self.key(tokens).transpose(1, 2) / 8**0.5
            features = (torch.softmax(scores, -1) @ tokens).reshape(-1, 64)
            return self.head(features), features

    given = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 6))
    names = ["image", "meta"]
    with silence():
        torch.onnx.export(
            Fusion().eval(),
            given,
            str(path),
            opset_version=17,
            dynamo=False,
            input_names=names,
            output_names=["logits", "features"],
            dynamic_axes={name: {0: "n"} for name in (*names, "logits")} if open_batch else None,
        )
    return path


def write_arrays(folder: Path, seeds: range) -> None:
    folder.mkdir(parents=True)
    for seed in seeds:
        random = np.random.default_rng(seed)
        image = random.random((3, 32, 32), dtype=np.float32)
        meta = random.standard_normal(6).astype(np.float32)
        np.savez(folder / f"{seed}.npz", image=image, meta=meta)


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


# --- FP16 that overflows


def write_loud(path: Path) -> Path:
    """The first convolution gives what FP16 cannot hold, the second takes it back."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3),
        torch.nn.Conv2d(4, 4, 3),
    )
    with torch.no_grad():
        network[0].weight.abs_().mul_(8e4)
        network[2].weight.abs_().mul_(1e-5)
    names = {"input_names": ["image"], "output_names": ["output"]}
    given = (torch.zeros(1, 3, 16, 16),)
    with silence():
        torch.onnx.export(network, given, str(path), opset_version=17, dynamo=False, **names)
    return path


def test_the_layer_that_overflows_is_named_and_stays_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_loud(tmp_path / "loud.onnx")
    draw(tmp_path / "data", range(2))
    draw(tmp_path / "calibration", range(2, 6))
    model: dict[str, Any] = {"source": "loud.onnx", "task": "tensors", "validation": "data"}
    model |= {"height": 16, "width": 16}
    project(tmp_path, monkeypatch, model)
    with pytest.raises(GateError, match="FP16 overflows, first in") as error:
        run_steps(("fp16",))
    assert "overflows, first in /0/Conv (Conv), which reaches " in str(error.value)
    assert "and FP16 holds 65504: name it in `fp32_layers` of the model" in str(error.value)
    change_model(fp32_layers=["^/0/", "^/1/", "/2/Conv$"])
    run_steps()
    assert read_json(model_folder("tiny", "fp16") / "graph/record.json")["fp32_layers"] == [
        "/0/Conv",
        "/1/Relu",
        "/2/Conv",
    ]
    assert find("int8").manifest.steps.quantize.quantized == ("/3/Conv",)
    assert find("int8").manifest.steps.validation.report.closeness.rms_relative < 0.1
    change_model(fp32_layers=["nothing of this name"])
    with pytest.raises(ConfigError, match=r"fp32_layers: 'nothing of this name': finds no layer"):
        load_step("quantize")(Stage("quantize", "tiny", precision="fp16"))
    with pytest.raises(ConfigError, match=r"fp32_layers\.0: '\(': no regular expression"):
        change_model(fp32_layers=["("])


def change_model(**changes: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["models"]["tiny"].update(changes)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    fingerprinted()
