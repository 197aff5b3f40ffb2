"""Histograms of a model's tensors over images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.calibration import collect, state
from enginery.calibration.histogram import Histogram
from enginery.errors import DataError
from tests.exact.calibration.common import filled, node


def model(batch: int | str, side: int | str = 4, *, tap: str = "s") -> onnx.ModelProto:
    """y = 2x + 1, and a Sqrt of x beside it that nobody asks for."""
    two, one = (
        numpy_helper.from_array(np.array(value, np.float32), name)
        for value, name in ((2, "two"), (1, "one"))
    )
    nodes = [node("Mul", "x two", "d"), node("Add", "d one", "y"), node("Sqrt", "x", "s")]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, side, side])
        for name in ("x", "y")
    ]
    made_here = helper.make_graph(nodes, "g", ends[:1], ends[1:], [two, one])
    return helper.make_model(made_here, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Five even pictures, of the values 0, 51, 102, 153 and 204."""
    import cv2

    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((4, 4, 3), number * 51, np.uint8))
    return paths


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, "n"])
def test_every_image_is_counted_once_whatever_the_batch(
    pictures: list[Path], tmp_path: Path, batch: int | str
) -> None:
    said: list[tuple[int, int]] = []
    work = collect.CalibrationJob(model(batch), ["x", "y"], pictures, (4, 4), "detect", "k")
    found = collect.collect(work, tmp_path / "kept", lambda done, total: said.append((done, total)))
    by_hand = {"x": Histogram(), "y": Histogram()}
    for number in range(5):
        value = np.full(48, number * 51, np.float32) / np.float32(255)
        by_hand["x"].add(value)
        by_hand["y"].add(value * 2 + 1)
    assert list(found) == ["x", "y"]
    for name, expected in by_hand.items():
        assert (filled(found[name]), found[name].exponent) == (filled(expected), expected.exponent)
        assert found[name].amax == expected.amax
    step = batch if isinstance(batch, int) else 1
    assert said == [(min(done, 5), 5) for done in range(step, 5 + step, step)]
    assert not (tmp_path / "kept").exists()


def test_open_sizes_are_those_asked_for(pictures: list[Path], tmp_path: Path) -> None:
    work = collect.CalibrationJob(model("n", "side"), ["x"], pictures[:1], (6, 8), "detect", "k")
    assert (
        int(collect.collect(work, tmp_path / "kept", lambda *_: None)["x"].counts.sum())
        == 3 * 6 * 8
    )


def test_a_tensor_whose_first_axis_is_no_batch_is_counted_whole(
    pictures: list[Path], tmp_path: Path
) -> None:
    given = model(1)
    given.graph.initializer.append(numpy_helper.from_array(np.array([12, 4]), "shape"))
    given.graph.node.append(node("Reshape", "y shape", "flat"))
    work = collect.CalibrationJob(given, ["flat"], pictures[:2], (4, 4), "detect", "k")
    assert int(collect.collect(work, tmp_path / "kept", lambda *_: None)["flat"].counts.sum()) == 96


def test_only_what_is_asked_for_is_counted(pictures: list[Path], tmp_path: Path) -> None:
    work = collect.CalibrationJob(model(1), ["s"], pictures[4:], (4, 4), "detect", "k")
    found = collect.collect(work, tmp_path / "kept", lambda *_: None)
    assert list(found) == ["s"]
    assert found["s"].amax == float(np.sqrt(np.float32(0.8)))


def test_the_graph_that_is_run_has_these_outputs_alone() -> None:
    given = model(1)
    changed = collect._with_outputs(given, ["s", "d"])
    assert [output.name for output in changed.graph.output] == ["s", "d"]
    assert {output.type.tensor_type.elem_type for output in changed.graph.output} == {
        TensorProto.FLOAT
    }
    assert [output.name for output in given.graph.output] == ["y"]
    assert changed.graph.node == given.graph.node


def test_images_are_fitted_as_the_task_wants_them(tmp_path: Path) -> None:
    """Twice as wide as high: to classify, the white middle is cut out; otherwise grey comes above
    and below.
    """
    import cv2

    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 255
    cv2.imwrite(str(tmp_path / "wide.png"), pixels)
    for task, amin in (("classify", 48), ("detect", 0)):
        work = collect.CalibrationJob(model(1), ["x"], [tmp_path / "wide.png"], (4, 4), task, "k")
        found = collect.collect(work, tmp_path / "kept", lambda *_: None)["x"]
        assert int(found.counts[2048:].sum() == 48) * 48 == amin


def test_a_session_is_named_and_shares_the_cores(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked, workers = collect.open_model, list[tuple[object, ...]](), list[int]()
    pool = collect.ThreadPoolExecutor
    monkeypatch.setattr(collect, "_WORKERS", 3)
    monkeypatch.setattr(collect, "threads_beside", lambda workers: 100 + workers)
    monkeypatch.setattr(
        collect, "open_model", lambda *given: asked.append(given[1:]) or real(given[0], "", 1)
    )
    monkeypatch.setattr(
        collect, "ThreadPoolExecutor", lambda count: workers.append(count) or pool(count)
    )
    work = collect.CalibrationJob(model(1), ["x"], pictures, (4, 4), "detect", "k")
    collect.collect(work, tmp_path / "kept", lambda *_: None)
    assert (asked, workers) == ([("the graph to calibrate", 103)], [3])


def test_which_image_of_a_batch_is_nan_is_said(pictures: list[Path], tmp_path: Path) -> None:
    """1 / x is infinite for the black picture alone, wherever it is in the batch."""
    given = model(3)
    given.graph.node.append(node("Reciprocal", "x", "r"))
    for order, name in (([1, 2, 0, 3, 4], "0.png"), ([1, 2, 3, 4, 0], "0.png")):
        work = collect.CalibrationJob(
            given, ["r"], [pictures[index] for index in order], (4, 4), "detect", "k"
        )
        with pytest.raises(DataError) as error:
            collect.collect(work, tmp_path / "kept", lambda *_: None)
        assert (
            str(error.value)
            == f"r is NaN or infinite on {tmp_path / name}. Remove the image, or repair the model"
        )


def test_a_stopped_run_keeps_whole_rounds_and_goes_on(
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers, one batch each a round: after two pictures all is kept, and the run that goes on
    begins with the third.
    """
    monkeypatch.setattr(collect, "_WORKERS", 2)
    monkeypatch.setattr(collect, "_BATCHES", 1)
    monkeypatch.setattr(collect, "_SAVE_EVERY_S", -1.0)
    kept, seen = tmp_path / "kept", list[int]()

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    work = collect.CalibrationJob(model(1), ["x"], pictures, (4, 4), "detect", "k")
    with pytest.raises(KeyboardInterrupt):
        collect.collect(work, kept, stop)
    assert state.images_done(kept, "k") == 2
    found = collect.collect(work, kept, lambda done, total: seen.append(done))
    assert seen == [3, 4, 5]
    assert int(found["x"].counts.sum()) == 5 * 48


def test_nothing_is_kept_before_its_time(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_WORKERS", 1)
    monkeypatch.setattr(collect, "_BATCHES", 1)
    saved: list[int] = []
    monkeypatch.setattr(state, "save", lambda kept, key, done, histograms: saved.append(done))
    clock = iter([0.0, 5.0, 10.0, 10.5, 10.5, 20.5, 20.6, 20.6])
    monkeypatch.setattr(collect, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    collect.collect(
        collect.CalibrationJob(model(1), ["x"], pictures, (4, 4), "detect", "k"),
        tmp_path / "kept",
        lambda *_: None,
    )
    assert saved == [3, 5]  # each more than 10 s after the one before
