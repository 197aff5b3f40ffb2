"""The steps, with everything around them at hand: what they ask for, what they write, and what they
refuse.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tasks.build
import tasks.calibrate
import tasks.calibration_images
import tasks.images
import tasks.quantize
import tasks.refitting
import tasks.simplify
import tasks.validate
from enginery.calibration import cache, state
from enginery.calibration.histogram import Histogram
from enginery.errors import ConfigError, DataError, EngineryError, ModelError, RefitError
from enginery.evaluation.compare import OutputError
from enginery.evaluation.validation import GraphReport
from enginery.gpu.inventory import Gpu
from enginery.graphs import simplify
from enginery.pipeline import recipes
from enginery.pipeline.workplace import ToolchainInUse
from enginery.project.engine_name import EngineName
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.project.paths import WORKPLACE
from enginery.project.stage import Stage
from enginery.registry.manifest import Manifest, compose
from enginery.registry.records import parse
from enginery.system.files import sha256, write_json
from enginery.toolchain.requests import BuildRequest, BuildResult, RefitResult
from enginery.vision import tasks as head
from enginery.vision.score import Metrics
from tests.registered import records_of
from tests.stages import recipes_of

ROOT = Path(__file__).resolve().parents[1]
MODEL = "yolov8n-shapes"


@pytest.fixture(autouse=True)
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A checkout of this test's own; what the steps say."""
    monkeypatch.chdir(tmp_path)
    lines: list[tuple[str, str]] = []

    def log(message: str, severity: str = "info") -> None:
        lines.append((message, severity))

    for module in (
        tasks.build,
        tasks.calibrate,
        tasks.calibration_images,
        tasks.images,
        tasks.quantize,
        tasks.refitting,
        tasks.simplify,
        tasks.validate,
    ):
        monkeypatch.setattr(module, "log", log)
    return lines


def write_recipe(step: Stage, **parameters: Any) -> dict[str, Any]:
    found = {"step": step.step, "version": 1, "tools": {}, "parameters": parameters}
    write_json(step.recipe, found)
    return found


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def pictures(folder: str, *values: int, size: tuple[int, int] = (4, 4)) -> list[Path]:
    """PNGs of one colour each."""
    paths = [Path(folder) / f"{number}.png" for number in range(len(values))]
    Path(folder).mkdir(parents=True)
    for path, value in zip(paths, values, strict=True):
        cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return paths


# A network of two convolutions whose last is a head's: `/model.22/cv2.0/cv2.0.2/Conv`

HEAD = "/model.22/cv2.0/cv2.0.2/Conv"


def network(batch: int | str = 1, own: bool = False) -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "w")
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], "/model.0/conv/Conv"),
        helper.make_node("Relu", ["c"], ["r"], "/model.0/act/Relu"),
        helper.make_node("Conv", ["r", "w"], ["output0"], HEAD),
    ]
    tensors = [weights]
    if own:
        tensors += [
            numpy_helper.from_array(np.array(0.5, np.float32), "s"),
            numpy_helper.from_array(np.array(0, np.int8), "z"),
        ]
        nodes[1:2] = [
            helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        ]
    shape = [batch, 3, 4, 4]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("images", "output0")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def simplified(batch: int | str = 1, own: bool = False) -> Path:
    path = Path("artifacts/models") / MODEL / "simplify" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(network(batch, own), path)
    return path


# Calibration

CALIBRATE = Stage("calibrate", MODEL)
FOLDER = f"artifacts/models/{MODEL}/calibration"


def calibration(images: list[Path], **changed: Any) -> dict[str, Any]:
    write_json(
        Path(f"artifacts/models/{MODEL}/calibration-images.json"),
        {"images": {path.name: sha256(path) for path in images}},
    )
    counting = {"algorithm": "minmax", "height": 4, "width": 4, "task": "detect", **changed}
    return write_recipe(CALIBRATE, calibration="images", counting=counting)


@pytest.mark.parametrize("batch", [1, 2, 16, "n"])
def test_ranges_are_those_of_the_images_whatever_the_batch(
    said: list[Any], batch: int | str
) -> None:
    """The brightest of three pictures decides; the network passes its image through."""
    graph, images = simplified(batch), pictures("images", 51, 204, 102)
    made = calibration(images)
    tasks.calibrate.calibrate(CALIBRATE)
    scales = cache.read(Path(FOLDER) / "calibration.cache")
    assert scales.version == 8600
    assert scales.thresholds() == pytest.approx({"images": 0.8, "r": 0.8}, rel=1e-6)
    histograms = state.finished(Path(FOLDER) / "histograms.npz")
    assert {name: int(found.counts.sum()) for name, found in histograms.items()} == {
        "images": 144,
        "r": 144,
    }
    listed = {"images": {path.name: sha256(path) for path in images}}
    digest = hashlib.sha256(
        (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode()
    ).hexdigest()
    assert read(f"{FOLDER}/record.json") == {
        "recipe": made,
        "images": 3,
        "images_sha256": digest,
        "own_quantization": False,
        "graph_sha256": sha256(graph),
        "tensors": 2,
        "cache_sha256": sha256(Path(FOLDER) / "calibration.cache"),
    }
    assert said == [("minmax ranges of 2 tensors from 3 images", "info")]
    assert sorted(path.name for path in Path(FOLDER).iterdir()) == [
        "calibration.cache",
        "histograms.npz",
        "record.json",
    ]


def test_a_classifier_is_calibrated_on_what_it_is_fed() -> None:
    """The white middle of a wide black picture is cut out; to detect, the whole would be fitted,
    grey above and below.
    """
    simplified()
    Path("images").mkdir()
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 255
    cv2.imwrite("images/0.png", pixels)
    for task, white in (("classify", 48), ("detect", 0)):
        calibration([Path("images/0.png")], task=task)
        tasks.calibrate.calibrate(CALIBRATE)
        counts = state.finished(Path(FOLDER) / "histograms.npz")["images"].counts
        assert (int(counts[2048:].sum()) == 48) is bool(white)


def test_the_algorithm_and_its_percentile_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    simplified()
    asked: list[Any] = []

    def thresholds_of(
        histograms: Mapping[str, Histogram], algorithm: str, percent: Any
    ) -> dict[str, float]:
        asked.append((sorted(histograms), algorithm, percent))
        return {"images": 1.0, "r": 2.0}

    monkeypatch.setattr(tasks.calibrate, "thresholds_of", thresholds_of)
    calibration(pictures("images", 51), algorithm="percentile", percentile=99.5)
    tasks.calibrate.calibrate(CALIBRATE)
    assert asked == [(["images", "r"], "percentile", 99.5)]
    assert cache.read(Path(FOLDER) / "calibration.cache").scales == pytest.approx(
        {"images": 1 / 127, "r": 2 / 127}
    )


def test_a_calibration_goes_on_only_where_nothing_changed(said: list[Any]) -> None:
    simplified()
    images = pictures("images", 51, 204)
    calibration(images)
    keys: list[str] = []
    original = tasks.calibrate.collect

    def collect(work: Any, kept: Path, progress: Any) -> Any:
        keys.append(work.key)
        assert kept == Path(f"artifacts/models/{MODEL}/calibration-so-far.npz")
        assert work.images == [Path("images/0.png"), Path("images/1.png")]
        assert (work.size, work.task) == ((4, 4), "detect")
        return original(work, kept, progress)

    tasks.calibrate.collect = collect
    try:
        tasks.calibrate.calibrate(CALIBRATE)
        half = {name: Histogram() for name in ("images", "r")}
        for found in half.values():
            found.add(np.full(48, 0.9, np.float32))
        state.save(Path(f"artifacts/models/{MODEL}/calibration-so-far.npz"), keys[0], 1, half)
        tasks.calibrate.calibrate(CALIBRATE)
        assert ("goes on after 1 of 2 images, where the last run was stopped", "info") in said
        assert cache.read(Path(FOLDER) / "calibration.cache").thresholds()[
            "images"
        ] == pytest.approx(0.9, rel=1e-6)
        cv2.imwrite("images/1.png", np.full((4, 4, 3), 203, np.uint8))
        calibration(images)
        tasks.calibrate.calibrate(CALIBRATE)
        calibration(images, algorithm="mse")
        tasks.calibrate.calibrate(CALIBRATE)
        onnx.save(network(2), f"artifacts/models/{MODEL}/simplify/model.onnx")
        tasks.calibrate.calibrate(CALIBRATE)
    finally:
        tasks.calibrate.collect = original
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_a_graph_with_its_own_pairs_is_not_calibrated() -> None:
    graph = simplified(own=True)
    made = calibration(pictures("images", 51))
    tasks.calibrate.calibrate(CALIBRATE)
    found = read(f"{FOLDER}/record.json")
    del found["images_sha256"]
    assert found == {
        "recipe": made,
        "images": 1,
        "own_quantization": True,
        "graph_sha256": sha256(graph),
    }
    assert [path.name for path in Path(FOLDER).iterdir()] == ["record.json"]


def test_an_imported_cache_needs_the_ranges_of_quantized_layers_only(said: list[Any]) -> None:
    simplified()
    cache.write(cache.Cache(101601, {"images": 0.5, "more": 2.0}), Path("own.cache"))
    write_json(
        Path(f"artifacts/models/{MODEL}/calibration-images.json"),
        {"images": {}, "cache_sha256": "x"},
    )
    write_recipe(CALIBRATE, calibration="own.cache", rule="yolo-head-2", exclude=[])
    tasks.calibrate.calibrate(CALIBRATE)
    assert cache.read(Path(FOLDER) / "calibration.cache") == cache.Cache(
        8600, {"images": 0.5, "more": 2.0}
    )
    assert read(f"{FOLDER}/record.json")["tensors"] == 1
    assert said == [("own.cache: ranges of 1 tensors, taken as they are", "info")]
    write_recipe(CALIBRATE, calibration="own.cache", rule="none", exclude=[])
    with pytest.raises(
        DataError, match=r"own\.cache has no range for 1 of the graph's 2 tensors, r first"
    ):
        tasks.calibrate.calibrate(CALIBRATE)
    write_recipe(CALIBRATE, calibration="own.cache", rule="none", exclude=["model.22"])
    tasks.calibrate.calibrate(CALIBRATE)


# Calibration images, validation images

LIST = Stage("calibration-images", MODEL)


def test_calibration_images_are_listed(said: list[Any]) -> None:
    paths = pictures("set/images", 1, 2, 3)
    write_json(Path(f"artifacts/models/{MODEL}/images.json"), {"images": {"a.png": "0"}})
    write_recipe(LIST, calibration="set", minimum_images=3, task="detect")
    tasks.calibration_images.list_calibration_images(LIST)
    listed = {"images": {path.name: sha256(path) for path in paths}}
    assert read(f"artifacts/models/{MODEL}/calibration-images.json") == listed
    assert said == [("3 calibration images, none of them a validation image", "info")]
    write_recipe(LIST, calibration="set", minimum_images=4, task="detect")
    with pytest.raises(DataError) as error:
        tasks.calibration_images.list_calibration_images(LIST)
    assert str(error.value) == (
        "set holds 3 images, int8.yolov8n-shapes.minimum_images asks for 4. "
        "Add images like those of production: with few, INT8's ranges are a guess"
    )


def test_a_validation_image_is_no_calibration_image() -> None:
    paths = pictures("set", 1, 2, 3)
    other = {"x.png": "0", "y.png": sha256(paths[1]), "z.png": sha256(paths[2])}
    write_json(Path(f"artifacts/models/{MODEL}/images.json"), {"images": other})
    write_recipe(LIST, calibration="set", minimum_images=1, task="detect")
    with pytest.raises(DataError) as error:
        tasks.calibration_images.list_calibration_images(LIST)
    assert str(error.value) == (
        "2 images of set are validation images too: 1.png is y.png. Calibrate with others, or the validation proves nothing"
    )


def test_a_cache_takes_the_place_of_images(said: list[Any]) -> None:
    Path("own.cache").write_text("ranges")
    write_recipe(LIST, calibration="own.cache", minimum_images=100, task="detect")
    tasks.calibration_images.list_calibration_images(LIST)
    digest = hashlib.sha256(b"ranges").hexdigest()
    assert read(f"artifacts/models/{MODEL}/calibration-images.json") == {
        "cache_sha256": digest,
        "images": {},
    }
    assert said == [("own.cache takes the place of calibration images", "info")]


def test_validation_images_are_listed_with_their_labels(said: list[Any]) -> None:
    step = Stage("images", MODEL)
    paths = pictures("set/images", 1, 2, size=(10, 10))
    Path("set/labels").mkdir()
    Path("set/labels/0.txt").write_text("0 0.5 0.5 1 1\n")
    write_recipe(step, validation="set", task="detect")
    tasks.images.list_validation_images(step)
    found = read(f"artifacts/models/{MODEL}/images.json")
    from enginery.system.files import sha256_tree

    assert found == {
        "images": {f"images/{path.name}": sha256(path) for path in paths},
        "tree_sha256": sha256_tree(Path("set")),
    }
    assert said == [("2 validation images", "info")]
    Path("set/labels/1.txt").write_text("0 7\n")
    with pytest.raises(DataError, match=r"1\.txt, line 1"):
        tasks.images.list_validation_images(step)
    Path("set/labels/1.txt").unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(DataError, match=r"1\.png cannot be read as an image"):
        tasks.images.list_validation_images(step)
    cv2.imwrite(str(paths[1]), np.zeros((10, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"1\.png has fewer than 10 pixels in height or width"):
        tasks.images.list_validation_images(step)


# Quantization


def quantize(precision: str = "int8", **parameters: Any) -> Any:
    step = Stage("quantize", MODEL, precision=precision)
    made = write_recipe(
        step, **({"rule": "none", "exclude": [], **parameters} if precision == "int8" else {})
    )
    tasks.quantize.quantize(step)
    found = read(f"artifacts/models/{MODEL}/{precision}/graph/record.json")
    assert found["recipe"] == made
    assert found["sha256"] == sha256(Path(f"artifacts/models/{MODEL}/{precision}/graph/model.onnx"))
    return found


def calibrated(own: bool = False, **scales: float) -> None:
    folder = Path(FOLDER)
    write_json(folder / "record.json", {"own_quantization": own, "images_sha256": "i"})
    cache.write(
        cache.from_thresholds(scales or {"images": 1.27, "r": 2.54}), folder / "calibration.cache"
    )


def kinds(precision: str = "int8") -> dict[str, list[str]]:
    """Each convolution with what its inputs come from."""
    graph = onnx.load(f"artifacts/models/{MODEL}/{precision}/graph/model.onnx").graph
    made = {output: node.op_type for node in graph.node for output in node.output}
    return {
        node.name: [made.get(name, "-") for name in node.input]
        for node in graph.node
        if node.op_type == "Conv"
    }


def test_layers_become_int8_but_for_those_that_are_excluded(said: list[Any]) -> None:
    simplified()
    calibrated()
    pair = ["DequantizeLinear", "DequantizeLinear"]
    found = quantize()
    assert kinds() == {"/model.0/conv/Conv": pair, HEAD: pair}
    assert (found["excluded"], found["quantized"]) == ([], ["/model.0/conv/Conv", HEAD])
    assert found["calibration"] == {"own_quantization": False, "images_sha256": "i"}
    assert said[0] == ("2 layers in int8, 0 kept in fp16 by none and `exclude`", "info")
    assert said[1] == (f"int8 graph {found['sha256'][:12]}", "info")
    for parameters in (
        {"rule": "yolo-head-1"},
        {"rule": "yolo-head-2"},
        {"exclude": [r"model\.22"]},
    ):
        found = quantize(**parameters)
        assert kinds()["/model.0/conv/Conv"] == pair
        assert "DequantizeLinear" not in kinds()[HEAD]
        assert (found["excluded"], found["quantized"]) == ([HEAD], ["/model.0/conv/Conv"])
    rule = "rule yolo-head-1 finds not all that it names in this graph: is it for another model family?"
    assert (rule, "warning") in said
    assert not [line for line in said if "yolo-head-2 finds not all" in line[0]]


def test_the_ranges_of_all_activations_lie_beside_the_graph() -> None:
    simplified()
    calibrated()
    quantize()
    found = cache.read(Path(f"artifacts/models/{MODEL}/int8/graph/calibration.cache"))
    assert found.version == 8600
    assert found.thresholds() == pytest.approx({"images": 1.27, "r": 2.54, "c": 2.54}, rel=1e-6)
    graph = onnx.load(f"artifacts/models/{MODEL}/int8/graph/model.onnx").graph
    scales = {
        tensor.name: float(numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.name in ("images_scale", "r_scale")
    }
    assert scales == {"images_scale": float(np.float16(0.01)), "r_scale": float(np.float16(0.02))}


def test_what_int8_refuses() -> None:
    simplified()
    calibrated(images=1.0)
    with pytest.raises(
        DataError, match=r"calibration\.cache has no range for 1 of the graph's 2 tensors, r first"
    ):
        quantize()
    calibrated(images=1.0, r=0.0)
    with pytest.raises(DataError, match="the range of r is 0"):
        quantize()
    quantize(exclude=[HEAD])
    with pytest.raises(ConfigError) as error:
        quantize(exclude=["nothing", "conv", "none"])
    assert error.value.mistakes == (
        "int8.yolov8n-shapes.exclude: 'nothing': finds no layer; `enginery sensitivity` lists them",
        "int8.yolov8n-shapes.exclude: 'none': finds no layer; `enginery sensitivity` lists them",
    )


def test_a_graph_with_its_own_pairs_passes_through(said: list[Any]) -> None:
    simplified(own=True)
    calibrated(own=True)
    found = quantize()
    assert (found["excluded"], found["quantized"], found["casts"]) == ([], [], 0)
    assert found["calibration"]["own_quantization"] is True
    assert said[0] == ("the graph brings its own Q/DQ nodes: it passes through untouched", "info")
    assert not Path(f"artifacts/models/{MODEL}/int8/graph/calibration.cache").exists()


def test_float_graphs() -> None:
    simplified()
    assert quantize("fp32")["casts"] == 0
    assert quantize("fp16")["casts"] == 2
    assert kinds("fp32") == {"/model.0/conv/Conv": ["-", "-"], HEAD: ["Relu", "-"]}


# Simplification: judged on real images


def simplify_with(
    monkeypatch: pytest.MonkeyPatch, made: onnx.ModelProto | None, reason: str = ""
) -> dict[str, Any]:
    """What the simplifier makes is this graph."""
    source = simplified()

    def run(given: Path, out: Path, time_limit: float) -> str:
        assert (given, time_limit) == (source, 9.5)
        if made is not None:
            onnx.save(made, out)
        return reason

    monkeypatch.setattr(simplify, "_run", run)
    feeds = [{"images": np.full((1, 3, 4, 4), value, np.float32)} for value in (0.25, 1.0)]
    return simplify.simplify(source, Path("out.onnx"), feeds, 9.5)


def scaled(factor: float) -> onnx.ModelProto:
    found = network()
    values = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * np.float32(factor)
    found.graph.initializer.append(numpy_helper.from_array(values, "v"))
    found.graph.node[2].input[1] = "v"
    return found


def test_a_simplified_graph_that_is_equal_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scaled(1)
    made.graph.node.append(helper.make_node("Identity", ["output0"], ["more"]))
    found = simplify_with(monkeypatch, made)
    assert found == {
        "simplified": True,
        "reason": "",
        "nodes_before": 3,
        "max_difference": 0.0,
        "nodes_after": 4,
    }
    assert len(onnx.load("out.onnx").graph.node) == 4


@pytest.mark.parametrize(
    ("factor", "used"),
    [(1.00005, True), (1.0002, False), (0.9998, False), (2.0, False), (math.nan, False)],
)
def test_a_simplified_graph_that_differs_is_not(
    monkeypatch: pytest.MonkeyPatch, factor: float, used: bool
) -> None:
    found = simplify_with(monkeypatch, scaled(factor))
    assert found["simplified"] is used
    if math.isnan(factor):
        return
    difference = abs(float(np.float32(factor)) - 1)
    if used:
        assert found["max_difference"] == pytest.approx(difference, rel=1e-2)
    else:
        assert found["reason"] == f"its outputs differ by {difference:.2g} of the largest value"
        assert [tensor.name for tensor in onnx.load("out.onnx").graph.initializer] == ["w"]
        assert found["nodes_after"] == 3


def test_every_image_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the brighter image shows the difference: what is above 0.5 is cut off."""
    made = network()
    made.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "most"))
    made.graph.node[1].CopyFrom(helper.make_node("Min", ["c", "most"], ["r"], "min"))
    found = simplify_with(monkeypatch, made)
    assert (found["simplified"], found["reason"]) == (
        False,
        "its outputs differ by 0.5 of the largest value",
    )


def test_a_simplified_graph_that_cannot_run_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = simplify_with(monkeypatch, None, "onnxsim ended with 1: odd")
    assert found == {
        "simplified": False,
        "reason": "onnxsim ended with 1: odd",
        "nodes_before": 3,
        "nodes_after": 3,
    }
    assert len(onnx.load("out.onnx").graph.node) == 3


# Validation of a graph


def test_a_graphs_validation_is_recorded(said: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    step = Stage("validate", MODEL, precision="fp16")
    asked: list[Any] = []
    metrics = [Metrics(head.MAP, value, 0.9, {}) for value in (0.75, 0.5)]
    report = GraphReport(OutputError(0.1, 0.01, 0, 0), *metrics)
    monkeypatch.setattr(
        tasks.validate, "validate_graph", lambda *given: asked.append(given) or report
    )
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
    [(first, second, folder, judged, told, size)] = asked
    place = Path(f"artifacts/models/{MODEL}")
    assert (first, second) == (place / "export/model.onnx", place / "fp16/graph/model.onnx")
    assert (folder, size, judged) == (
        Path("set"),
        (32, 64),
        head.TaskMetadata("detect", {0: "a", 1: "b"}),
    )
    told(3, 4)
    assert asked[1] == ("images", 3, 4)
    assert read(f"{place}/fp16/validation.json") == {
        "recipe": made,
        "report": report.to_dict(),
        "images_sha256": "t",
        "images": 2,
    }
    assert said == [("mAP50-95 0.5000, FP32 original 0.7500", "info")]


# Building

GPU = Gpu(0, "GPU-12345678-9", "Card", "8.6", 24000, "580", "12.8", 2000, 9000)
TOOLCHAIN = ToolchainInUse(
    name="mine",
    python=Path("/env/python"),
    gpu=GPU,
    visible="GPU-12345678-9",
    time_limit_s=1800,
)


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return load_spec(ROOT / "params.yaml")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Build for real, but for the toolchain and the GPU; what was asked of them is in `asked`."""
    asked: list[Any] = []

    @contextmanager
    def reserved(gpu: Gpu | None, needed: int, on_wait: Any) -> Iterator[None]:
        assert on_wait is tasks.build.log
        asked.append(("reserved", gpu, needed))
        yield
        asked.append("given back")

    def build_plan(python: Path, request: BuildRequest, on_event: Any, limit: float) -> BuildResult:
        assert on_event is tasks.build.emit
        asked.append((python, request, limit))
        for given in (request.cache, request.native_images):
            result.files.append(given.read_bytes() if given and given.is_file() else None)
        if request.native_images and request.cache:
            request.cache.write_text("TRT-101601-EntropyCalibration2\nimages: 1\n")
        request.plan.write_bytes(b"plan")
        return result.made

    class Built:
        def __init__(self) -> None:
            self.toolchain, self.files, self.asked = TOOLCHAIN, list[Any](), asked
            self.made = BuildResult(
                "p", 4_000_000, None, 12.3456, 2048.7, "10.16.1.11", 0, (), ("w",), ("a warning",)
            )

        def __call__(
            self, precision: str = "fp16", batch: int | str = 1, own: bool = False, **changed: Any
        ) -> BuildRequest:
            step = Stage("build", MODEL, "rtx-ada", precision)
            parameters = {
                "runtime": "tensorrt",
                "runtime_version": "10.16.1.11",
                "platform": "linux",
                "compute_capability": "8.6",
                "gpu": "Card",
                "input": None,
                "profile": {"min": [1, 3, 4, 4], "opt": [1, 3, 4, 4], "max": [1, 3, 4, 4]},
                "workspace_mib": None,
                "optimization_level": None,
                **changed,
            }
            self.recipe = write_recipe(step, **parameters)
            in_use = {"rtx-ada": {"toolchain": self.toolchain.model_dump(mode="json")}}
            write_json(WORKPLACE, {"targets": in_use})
            for name in ("fp32", "fp16", "int8"):
                folder = Path(f"artifacts/models/{MODEL}/{name}/graph")
                folder.mkdir(parents=True, exist_ok=True)
                onnx.save(network(batch), folder / "model.onnx")
            write_json(
                folder / "record.json",
                {"calibration": {"own_quantization": own}, "excluded": [HEAD]},
            )
            cache.write(
                cache.from_thresholds({"images": 1.0, "r": 127.0}), folder / "calibration.cache"
            )
            asked.clear()
            self.files.clear()
            tasks.build.build(step)
            self.folder = f"artifacts/build/{MODEL}/rtx-ada/{precision}"
            return next(each[1] for each in asked if isinstance(each[0], Path))

    monkeypatch.setattr(tasks.build, "reserved", reserved)
    monkeypatch.setattr(tasks.build, "build_plan", build_plan)
    result = Built()
    return result


def test_a_build_has_its_gpu_to_itself(built: Any, said: list[Any]) -> None:
    built()
    assert built.asked[0] == ("reserved", GPU, 1024)
    python, _, limit = built.asked[1]
    assert (python, limit) == (Path("/env/python"), 1800)
    assert built.asked[2:] == ["given back"]
    assert said == [("4.0 MB in 12.3 s", "info")]
    built(workspace_mib=4096)
    assert built.asked[0] == ("reserved", GPU, 4096)
    built(workspace_mib=512)
    assert built.asked[0] == ("reserved", GPU, 1024)


def test_a_build_is_refused_where_no_fingerprint_found_its_toolchain(built: Any) -> None:
    built()
    write_json(WORKPLACE, {"targets": {"other": {}}})
    with pytest.raises(EngineryError) as error:
        tasks.build.build(Stage("build", MODEL, "rtx-ada", "fp16"))
    assert str(error.value) == (
        "artifacts/workplace.json does not say how this machine builds for rtx-ada. "
        "Run the fingerprint step first: dvc repro fingerprint"
    )


def test_what_a_build_writes(built: Any) -> None:
    built()
    assert sorted(path.name for path in Path(built.folder).iterdir()) == [
        "measured.json",
        "model.plan",
        "record.json",
    ]
    assert read(f"{built.folder}/record.json") == {
        "recipe": built.recipe,
        "graph_sha256": sha256(Path(f"artifacts/models/{MODEL}/fp32/graph/model.onnx")),
        "plan_sha256": "p",
        "plan_bytes": 4_000_000,
        "weights_sha256": None,
        "runtime_version": "10.16.1.11",
        "messages": ["a warning"],
    }
    measured = read(f"{built.folder}/measured.json")
    assert (measured["seconds"], measured["peak_memory_mib"], measured["gpu"]["uuid"]) == (
        12.346,
        2049,
        "GPU-12345678-9",
    )
    built.toolchain = TOOLCHAIN.model_copy(update={"gpu": None})
    built()
    assert read(f"{built.folder}/measured.json") == {"seconds": 12.346, "peak_memory_mib": 2049}


def test_tactics_and_layers_that_were_left_out_are_said(built: Any, said: list[Any]) -> None:
    built.made = replace(built.made, skipped_tactics=3, dla_fallback=tuple("abcdefg"))
    built(dla_core=1)
    assert said[:2] == [
        (
            "3 tactics were skipped for want of GPU memory: free some, or raise workspace_mib",
            "warning",
        ),
        ("7 layers cannot run on the DLA and fall back to the GPU: a, b, c, d, e", "warning"),
    ]
    found = read(f"{built.folder}/record.json")
    assert (found["skipped_tactics"], found["dla_fallback"]) == (3, list("abcdefg"))
    built.made = replace(built.made, skipped_tactics=0, dla_fallback=())
    built(dla_core=1)
    found = read(f"{built.folder}/record.json")
    assert (found["dla_fallback"], "skipped_tactics" in found) == ([], False)


def test_the_request_of_a_plain_build(built: Any) -> None:
    folder = Path("artifacts/timing/mine/10.16.1.11-Card")
    folder.mkdir(parents=True)
    for name in ("b.timing", "a.timing", "other"):
        (folder / name).write_text("")
    request = built("fp16", workspace_mib=64, optimization_level=0, tactic_sources=["CUDNN"])
    place = Path(f"artifacts/build/{MODEL}/rtx-ada")
    assert request.plan.parent.parent == place
    assert request == BuildRequest(
        "tensorrt",
        Path(f"artifacts/models/{MODEL}/fp32/graph/model.onnx"),
        request.plan,
        MODEL,
        gpu="GPU-12345678-9",
        workspace_mib=64,
        optimization_level=0,
        tactic_sources=("CUDNN",),
        timing_caches=(folder / "a.timing", folder / "b.timing"),
        timing_cache=folder / "builds-12345678.timing",
        precision="fp16",
    )
    built.toolchain = TOOLCHAIN.model_copy(update={"gpu": None})
    assert built().timing_cache == folder / "builds-gpu.timing"


@pytest.mark.parametrize(
    "option", ["tf32", "sparsity", "version_compatible", "hardware_compatible"]
)
def test_an_option_reaches_the_builder(built: Any, option: str) -> None:
    assert getattr(built(**{option: True}), option) is True
    assert getattr(built(), option) is False


def test_a_strongly_typed_build_takes_the_typed_graph(built: Any) -> None:
    request = built("int8", strongly_typed=True)
    assert request.onnx == Path(f"artifacts/models/{MODEL}/int8/graph/model.onnx")
    assert (request.precision, request.cache, request.fp16_layers, request.strongly_typed) == (
        "fp32",
        None,
        (),
        True,
    )
    assert request.timing_cache is not None
    rtx = built("fp16", runtime="tensorrt_rtx", compute_capability="8.9")
    assert rtx.onnx == Path(f"artifacts/models/{MODEL}/fp16/graph/model.onnx")
    assert (rtx.compute_capability, rtx.timing_cache, rtx.timing_caches, rtx.precision) == (
        "8.9",
        None,
        (),
        "fp32",
    )


def test_int8_ranges_are_headed_for_the_tensorrt_that_reads_them(built: Any) -> None:
    """As bytes; and the layers that stay in fp16 are told."""
    for version, number in (("8.6.0", 8600), ("10.16.1.11", 101601)):
        request = built("int8", runtime_version=version)
        assert request.onnx == Path(f"artifacts/models/{MODEL}/fp32/graph/model.onnx")
        assert (request.precision, request.fp16_layers, request.native_images) == (
            "int8",
            (HEAD,),
            None,
        )
        assert built.files == [
            f"TRT-{number}-EntropyCalibration2\nimages: 3c010204\nr: 3f800000\n".encode(),
            None,
        ]
        assert not request.cache.exists()
        assert "calibration.cache" not in [path.name for path in Path(built.folder).iterdir()]
    own = built("int8", own=True)
    assert (own.precision, own.cache, own.fp16_layers) == ("int8", None, ())


def test_native_calibration_gets_the_images_as_the_network_takes_them(built: Any) -> None:
    height, width = 6, 8
    paths = pictures("set/images", 51, 204, size=(height, width))
    write_json(
        Path(f"artifacts/models/{MODEL}/calibration-images.json"),
        {"images": {path.name: "x" for path in paths}},
    )
    native = {"calibration": "set", "height": height, "width": width, "task": "detect"}
    request = built("int8", native=native)
    assert request.native_images == request.plan.with_name("calibration.npy")
    assert request.cache == request.plan.with_name("calibration.cache")
    Path("i.npy").write_bytes(built.files[1])
    batch = np.load("i.npy")
    assert batch.shape == (2, 3, height, width)
    assert [float(image.max()) for image in batch] == [
        float(np.float32(value) / np.float32(255)) for value in (51, 204)
    ]
    assert built.files[0] is None
    assert (
        read(f"{built.folder}/record.json")["native_cache"]
        == "TRT-101601-EntropyCalibration2\nimages: 1\n"
    )
    assert sorted(path.name for path in Path(built.folder).iterdir()) == [
        "measured.json",
        "model.plan",
        "record.json",
    ]


PROFILE = {"min": [1, 3, 4, 4], "opt": [2, 3, 4, 4], "max": [4, 3, 4, 4]}
OTHER = {"min": [8, 3, 4, 4], "opt": [8, 3, 4, 4], "max": [9, 3, 4, 4]}


def test_profiles_are_for_open_sizes(built: Any) -> None:
    assert built().profiles == ()
    assert built(batch="n", profile=PROFILE).profiles == ({"images": PROFILE},)
    assert built(batch="n", profile=PROFILE, profiles=[PROFILE, OTHER]).profiles == (
        {"images": PROFILE},
        {"images": OTHER},
    )
    assert built(batch="n", profile=PROFILE, input="images").profiles == ({"images": PROFILE},)
    path = f"artifacts/models/{MODEL}/fp32/graph/model.onnx"
    cure = "Correct batch, height, width, profiles or input of the model in params.yaml"
    with pytest.raises(ModelError) as error:
        built(profile=PROFILE)
    assert str(error.value) == (
        f"{path}: the profile does not fit: images: axis 0: the graph has the fixed size 1, the profile [1, 2, 4]. {cure}"
    )
    with pytest.raises(ModelError) as error:
        built(batch="n", profile=PROFILE, profiles=[PROFILE, OTHER], input="x")
    assert (
        str(error.value)
        == f"{path}: the profile does not fit: no input is called 'x', the graph has images. {cure}"
    )


def test_a_build_of_what_can_be_refitted(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.build, "refitted", lambda *given: None)
    request = built("int8", refittable=True)
    found = read(f"{built.folder}/record.json")
    assert found["refittable_weights"] == ["w"]
    assert found["structure_sha256"] == tasks.refitting.structure(request, ["w"])
    calls: list[Any] = []
    facts = {"plan_sha256": "r", "plan_bytes": 5_500_000}
    monkeypatch.setattr(
        tasks.build, "refitted", lambda *given: calls.append(given) or (facts, {"seconds": 0.25})
    )
    with pytest.raises(StopIteration):  # no build was asked for
        built("int8", refittable=True)
    [(step, asked, python, limit)] = calls
    assert (step, python) == (Stage("build", MODEL, "rtx-ada", "int8"), Path("/env/python"))
    assert (asked.refittable, limit) == (True, 1800)
    assert read(f"{built.folder}/record.json")["plan_sha256"] == "r"
    assert read(f"{built.folder}/measured.json")["seconds"] == 0.25


# Refitting


def test_the_structure_is_the_graph_but_for_its_weights() -> None:
    onnx.save(network(), "g.onnx")
    one = BuildRequest("tensorrt", Path("g.onnx"), Path("p"), "g", fp16_layers=("a", "b"))
    digest = tasks.refitting.structure(one, ["w"])
    changed = network()
    changed.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    )
    onnx.save(changed, "g.onnx")
    assert tasks.refitting.structure(one, ["w"]) == digest
    assert tasks.refitting.structure(one, []) != digest
    assert tasks.refitting.structure(replace(one, fp16_layers=("a",)), ["w"]) != digest


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A registered engine from which a refit may begin."""
    from types import SimpleNamespace

    step = Stage("build", MODEL, "rtx-ada", "int8")
    made_of = records_of("0" * 64, 4)
    made = write_recipe(step, workspace_mib=None, **made_of["build"]["recipe"]["parameters"])
    onnx.save(network(), "g.onnx")
    request = BuildRequest(
        "tensorrt",
        Path("g.onnx"),
        Path("out/model.plan"),
        "g",
        gpu="GPU-1",
        version_compatible=True,
        dla_core=1,
        refittable=True,
    )
    Path("out").mkdir()
    made_of["build"] |= {
        "recipe": made,
        "refittable_weights": ["w"],
        "structure_sha256": tasks.refitting.structure(request, ["w"]),
        "skipped_tactics": 2,
    }
    name = EngineName(MODEL, "rtx-ada", "int8")
    manifest = parse(json.dumps(compose(name, made_of)).encode(), Manifest)
    found = SimpleNamespace(
        step=step,
        request=request,
        manifest=manifest,
        plan=Path("registered.plan"),
        harm=[],
        asked=[],
        fails=None,
        weights={},
    )

    def refit(python: Path, given: Any, on_event: Any, limit: float) -> RefitResult:
        found.asked.append((python, given, limit))
        with np.load(given.weights) as arrays:
            found.weights = {name: arrays[name].shape for name in arrays.files}
        if found.fails:
            raise found.fails
        return RefitResult("new", 7, 1.26, "10.16")

    monkeypatch.setattr(
        tasks.refitting,
        "engine_in",
        lambda folder: found if folder == Path(f"artifacts/engines/{MODEL}/rtx-ada/int8") else None,
    )
    monkeypatch.setattr(tasks.refitting, "damage", lambda engine: found.harm)
    monkeypatch.setattr(tasks.refitting, "refit", refit)
    return found


def refitted(engine: Any, **changed: Any) -> Any:
    return tasks.refitting.refitted(
        engine.step, replace(engine.request, **changed), Path("/env/python"), 9.5
    )


def test_new_weights_go_into_the_registered_plan(engine: Any, said: list[Any]) -> None:
    cache.write(cache.from_thresholds({"images": 1.0}), Path("c.cache"))
    facts, measured = refitted(engine, cache=Path("c.cache"))
    assert facts == {
        "plan_sha256": "new",
        "plan_bytes": 7,
        "weights_sha256": None,
        "runtime_version": "10.16",
        "messages": [],
        "refitted_from": "0" * 64,
        "refittable_weights": ["w"],
        "structure_sha256": engine.manifest.steps.build.structure_sha256,
        "skipped_tactics": 2,
    }
    assert measured == {"seconds": 1.26}
    [(python, given, limit)] = engine.asked
    assert (python, limit, engine.weights) == (
        Path("/env/python"),
        9.5,
        {"weights/w": (3, 3, 1, 1)},
    )
    assert (given.runtime, given.plan, given.plan_sha256, given.gpu) == (
        "tensorrt",
        Path("registered.plan"),
        "0" * 64,
        "GPU-1",
    )
    assert (given.host_code, given.dla_core, given.out) == (True, 1, Path("out/model.plan"))
    assert given.ranges == pytest.approx({"images": 1.0})
    assert list(Path("out").iterdir()) == []
    assert said == [("refitted the registered plan with new weights in 1.3 s", "info")]
    refitted(engine)
    assert engine.asked[1][1].ranges == {}


def test_where_a_plan_must_be_built(engine: Any, said: list[Any]) -> None:
    assert refitted(engine, native_images=Path("i.npy")) is None
    engine.harm = ["a byte changed"]
    assert refitted(engine) is None
    engine.harm = []
    assert said == []
    assert refitted(engine, fp16_layers=("a",)) is None
    assert said == [
        (
            "more than the weights that the registered plan can replace has changed: it is built",
            "info",
        )
    ]
    manifest, built = engine.manifest, engine.manifest.steps.build
    recipe = built.recipe.model_copy(update={"version": 2})
    for changed in ({"recipe": recipe}, {"refittable_weights": ()}):
        build = {"build": built.model_copy(update=changed)}
        steps = manifest.steps.model_copy(update=build)
        engine.manifest = manifest.model_copy(update={"steps": steps})
        assert refitted(engine) is None
    engine.manifest = manifest
    assert engine.asked == []
    engine.fails = RefitError("they do not fit", "Build it")
    assert refitted(engine) is None
    assert said[1:] == [("they do not fit: it is built", "warning")]
    assert list(Path("out").iterdir()) == []
    engine.step = Stage("build", MODEL, "rtx-ada", "fp16")
    write_recipe(engine.step)
    assert refitted(engine) is None


# Recipes: a tool's upgrade rebuilds what it shapes


@pytest.mark.parametrize(
    ("tool", "steps"),
    [
        ("onnxconverter-common", {"quantize"}),
        ("onnxsim", {"simplify"}),
        ("onnx", {"export", "simplify", "calibrate", "quantize"}),
        ("onnxruntime", {"simplify", "calibrate", "validate"}),
        ("opencv-python", {"demo-data", "calibrate", "validate"}),
        ("numpy", {"demo-data", "calibrate"}),
        ("torch", {"export", "validate"}),
        ("ultralytics", {"export", "validate"}),
        ("prefect", set()),
        ("dvc", set()),
    ],
)
def test_an_upgrade_touches_the_steps_that_use_the_tool(
    spec: Spec, monkeypatch: pytest.MonkeyPatch, tool: str, steps: set[str]
) -> None:
    runtime = {
        "runtime": "tensorrt_rtx",
        "runtime_version": "1",
        "platform": "linux",
        "compute_capability": "8.9",
    }
    runtimes = dict.fromkeys(spec.used_targets(), runtime)
    before, known = recipes_of(spec, runtimes), recipes.version
    monkeypatch.setattr(recipes, "version", lambda name: "99" if name == tool else known(name))
    after = recipes_of(spec, runtimes)
    assert before.keys() == after.keys()
    assert {after[path]["step"] for path in after if after[path] != before[path]} == steps
