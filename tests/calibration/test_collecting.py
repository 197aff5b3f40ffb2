"""Histograms of the demo's model over images, killed and continued."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.calibration import state
from enginery.calibration.collect import CalibrationJob, collect
from enginery.calibration.thresholds import thresholds_of
from enginery.demo.dataset import write_dataset
from enginery.errors import DataError, DiskFullError
from enginery.quantization.placement import tensors_to_calibrate
from enginery.sources.export import ExportSettings, export
from enginery.vision.images import list_images
from tests.conftest import ROOT

WEIGHTS = ROOT / "data/demo/yolov8n-shapes.pt"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export(WEIGHTS, ExportSettings("detect", (64, 96), 1, False, 17), path)
    return onnx.load(path)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    write_dataset(tmp_path / "images ü", range(5), 96)
    return list(list_images(tmp_path / "images ü", "detect"))


def work(model: onnx.ModelProto, images: list[Path]) -> CalibrationJob:
    return CalibrationJob(
        model, tensors_to_calibrate(model.graph), images, (64, 96), "detect", "key"
    )


def quiet(done: int, total: int) -> None:
    pass


def test_the_order_of_images_does_not_count(
    model: onnx.ModelProto, images: list[Path], tmp_path: Path
) -> None:
    for name, order in (("a", images), ("b", images[::-1])):
        found = collect(work(model, order), tmp_path / "kept", quiet)
        state.save(tmp_path / name, "", 5, found)
    assert len(found) == 59
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not (tmp_path / "kept").exists()


def test_the_batch_does_not_count(
    model: onnx.ModelProto, images: list[Path], tmp_path: Path
) -> None:
    export(WEIGHTS, ExportSettings("detect", (64, 96), 4, False, 17), tmp_path / "four.onnx")
    four = onnx.load(tmp_path / "four.onnx")
    one, other = (collect(work(graph, images), tmp_path / "kept", quiet) for graph in (model, four))
    assert one.keys() == other.keys()
    assert thresholds_of(one, "mse", 100) == pytest.approx(
        thresholds_of(other, "mse", 100), rel=1e-5
    )
    assert all(one[name].counts.sum() == other[name].counts.sum() for name in one)


def test_a_killed_run_goes_on(
    model: onnx.ModelProto, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_SAVE_EVERY_S", 0), ("_WORKERS", 1), ("_BATCHES", 1)):
        monkeypatch.setattr(f"enginery.calibration.collect.{name}", value)
    kept, seen = tmp_path / "kept", []

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(work(model, images), kept, stop)
    assert (state.images_done(kept, "key"), state.images_done(kept, "another")) == (3, 0)
    found = collect(work(model, images), kept, lambda done, total: seen.append(done))
    assert seen == [4, 5]
    whole = collect(work(model, images), kept, quiet)
    assert all(np.array_equal(found[name].counts, whole[name].counts) for name in whole)
    kept.write_bytes(b"spoiled by a crash")
    assert state.images_done(kept, "key") == 0


def test_no_room_for_the_histograms(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np; from enginery.calibration import state, histogram;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); h = histogram.Histogram();"
        "h.add(np.random.default_rng(0).random(9999).astype('f')); state.save(Path(sys.argv[1]), '', 1, {'t': h})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "h.npz")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert DiskFullError.__name__ in result.stderr
    assert f"no room to write {tmp_path}/h.npz" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_nan_names_tensor_and_image(images: list[Path], tmp_path: Path) -> None:
    """The root of (mean of the image - 0.05) is NaN for the dark image alone."""
    import cv2

    weights = numpy_helper.from_array(np.full((1, 3, 3, 3), 1 / 27, np.float32), "w")
    shift = numpy_helper.from_array(np.array([0.05], np.float32), "shift")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Sub", ["m", "shift"], ["s"]),
        helper.make_node("Sqrt", ["s"], ["q"]),
        helper.make_node("Conv", ["q", "w"], ["y"], name="c", pads=[1, 1, 1, 1]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 32, 32]), ("y", None))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights, shift])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    dark = images[3].with_name("dark.png")
    cv2.imwrite(str(dark), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"q is NaN or infinite on .*dark\.png"):
        collect(
            CalibrationJob(model, ["q"], [*images, dark], (32, 32), "detect", "k"),
            tmp_path / "kept",
            quiet,
        )
