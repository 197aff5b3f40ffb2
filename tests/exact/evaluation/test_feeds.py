"""What a graph is fed with, and who runs it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.evaluation import runners
from enginery.vision import feeds


def scaled(batch: int | str = 1, side: int | str = 2, rank: int = 4) -> onnx.ModelProto:
    """y = 2x, z = x + 1."""
    constants = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for value, name in ((2, "two"), (1, "one"))
    ]
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["y"]),
        helper.make_node("Add", ["x", "one"], ["z"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, side, side][:rank])
        for name in "xyz"
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((2, 2, 3), number * 51, np.uint8))
    return sorted(folder.iterdir())


def test_extents() -> None:
    assert feeds.extents([4, 3, 8, 16], (32, 64)) == (4, 8, 16)
    assert feeds.extents(["n", 3, "h", "w"], (32, 64)) == (1, 32, 64)
    assert feeds.extents(["n", 3, 8, "w"], (32, 64)) == (1, 8, 64)


@pytest.mark.parametrize(
    ("batch", "side", "shape"),
    [(1, 2, (1, 3, 2, 2)), (3, 2, (3, 3, 2, 2)), ("n", "s", (1, 3, 4, 6))],
)
def test_feeds(
    tmp_path: Path, pictures: list[Path], batch: Any, side: Any, shape: tuple[int, ...]
) -> None:
    onnx.save(scaled(batch, side), tmp_path / "m.onnx")
    found = list(feeds.feeds(tmp_path / "m.onnx", pictures, "classify", (4, 6)))
    assert [list(feed) for feed in found] == [["x"]] * 3
    for number, feed in enumerate(found):
        assert np.array_equal(feed["x"], np.full(shape, np.float32(number * 51) / np.float32(255)))


@pytest.mark.parametrize(
    ("batch", "side", "size"), [(1, 2, (2, 2)), (3, 2, (2, 2)), ("n", "s", (4, 6))]
)
def test_a_graph_runs_one_image_after_another(
    tmp_path: Path, batch: Any, side: Any, size: tuple[int, int]
) -> None:
    onnx.save(scaled(batch, side), tmp_path / "m.onnx")
    runner = runners.GraphRunner(tmp_path / "m.onnx", (4, 6))
    assert (runner.size, runner.input, runner.outputs) == (size, "x", ("y", "z"))
    image = np.random.default_rng(0).random((3, *size)).astype(np.float32)
    with ThreadPoolExecutor(1) as pool:
        for found in (runner.run(image), runner.begin(image, pool)()):
            assert [output.shape for output in found] == [(1, 3, *size)] * 2
            assert np.array_equal(found[0][0], image * 2)
            assert np.array_equal(found[1][0], image + 1)


def test_a_runner_shares_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(scaled(), tmp_path / "m.onnx")
    real, threads = runners.open_session, list[int]()
    monkeypatch.setattr(
        runners, "open_session", lambda path, count: threads.append(count) or real(path, count)
    )
    monkeypatch.setattr(runners, "threads_beside", lambda workers: 100 + workers)
    runners.GraphRunner(tmp_path / "m.onnx", (4, 6))
    assert threads == [100 + runners.WORKERS]


def test_a_graph_of_no_images(tmp_path: Path) -> None:
    onnx.save(scaled(rank=3), tmp_path / "m.onnx")
    with pytest.raises(ModelError) as error:
        runners.GraphRunner(tmp_path / "m.onnx", (4, 6))
    words = "its input x has the shape [1, 3, 2], not batch, 3, height, width"
    assert str(error.value) == f"{tmp_path}/m.onnx: {words}. Use an image model"


def test_recorded_outputs_come_one_by_one() -> None:
    first, second = (
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.arange(2, dtype=np.float16).reshape(2, 1),
    )
    runner = runners.RecordedRunner([first, second], (8, 16))
    assert runner.size == (8, 16)
    image = np.zeros((3, 8, 16), np.float32)
    with ThreadPoolExecutor(1) as pool:
        waits = [runner.begin(image, pool) for _ in range(2)]
    for row in (1, 0):
        found = waits[row]()
        assert [output.tolist() for output in found] == [
            [first[row].tolist()],
            [second[row].tolist()],
        ]
        assert {output.dtype for output in found} == {np.dtype(np.float32)}
    unequal = runners.RecordedRunner([first, second[:1]], (8, 16))
    unequal.run(image)
    with pytest.raises(ValueError, match="zip"):
        unequal.run(image)
