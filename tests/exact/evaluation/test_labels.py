"""What decides whether an engine is used: images, labels, closeness, metrics and the gate, each
number exact.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import DataError, ModelError
from enginery.evaluation import gate, runners, validation
from enginery.evaluation.compare import Accumulator, OutputError
from enginery.evaluation.judges.labels import LabelJudge
from enginery.sources.ultralytics_compat import import_torchvision
from enginery.vision import feeds, images, labels, results, score
from enginery.vision import tasks as head
from enginery.vision.tasks import TaskMetadata

import_torchvision()  # once, and not by whichever test comes first
importlib.import_module("ultralytics.models.yolo")
importlib.import_module("ultralytics.data.augment")
importlib.import_module("ultralytics.nn.autobackend")

THREE = {0: "ant", 1: "bee", 2: "cat"}


def test_constants() -> None:
    assert images.SUFFIXES == (".bmp", ".jpeg", ".jpg", ".png", ".webp")
    assert (images.FILL, labels._MARGIN, labels._SHOWN) == (114, 0.01, 80)
    assert head.ULTRALYTICS_TASKS == ("detect", "segment", "pose", "obb", "classify")
    assert head.Metric("map50_95", "mAP50-95", "map50") == head.MAP
    assert head.Metric("top1", "top-1", "top5") == head.TOP1
    assert labels._FORMATS == {
        "detect": "`class x y width height` or `class x1 y1 x2 y2 x3 y3 ...`",
        "segment": "`class x1 y1 x2 y2 x3 y3 ...`",
        "obb": "`class x1 y1 x2 y2 x3 y3 x4 y4`",
        "pose": "`class x y width height` and the keypoints",
    }
    assert results._FONT == "DejaVuSans.ttf"


# Closeness


def test_closeness_by_hand() -> None:
    """Two images of two outputs; differences of 1, -2 and 2, squares of 9, against 9 + 16 + 1 + 4 +
    4 + 4 of the reference.
    """
    found = Accumulator()
    found.add([np.array([3, 4]), np.array([1])], [np.array([4, 4]), np.array([1])])
    found.add([np.array([2, -2]), np.array([2])], [np.array([0, -2]), np.array([4])])
    assert found.closeness() == OutputError(2.0, math.sqrt(9 / 38), 0, 0)


def test_nan_and_inf_are_counted_and_everything_else_goes_on() -> None:
    found = Accumulator()
    bad = np.array([math.nan, math.inf, -math.inf, 3, math.nan], np.float32)
    found.add([np.array([1, 1, 1, 2, 1], np.float32)], [bad])
    assert found.closeness() == OutputError(1.0, math.sqrt(1 / 8), 2, 2)
    found.add([np.array([1], np.float32)], [np.array([math.inf], np.float32)])
    assert found.closeness() == OutputError(1.0, math.sqrt(1 / 9), 2, 3)


def test_the_largest_difference_is_in_double_precision() -> None:
    found = Accumulator()
    found.add([np.array([1], np.float32)], [np.array([1 + 2**-12], np.float16)])
    found.add([np.array([16777216.0], np.float32)], [np.array([16777217], np.int64)])
    assert found.closeness().max_abs == 1.0


def test_a_reference_of_zeros() -> None:
    same, other = Accumulator(), Accumulator()
    assert same.closeness() == OutputError(0.0, 0.0, 0, 0)
    same.add([np.zeros(2)], [np.zeros(2)])
    other.add([np.zeros(2)], [np.array([0, 1e-9])])
    assert (same.closeness().rms_relative, other.closeness().rms_relative) == (0.0, 1.0)
    with pytest.raises(ValueError, match="zip"):
        other.add([np.zeros(2)], [])
    empty = Accumulator()
    empty.add([np.zeros(0)], [np.zeros(0)])
    assert empty.closeness() == OutputError(0.0, 0.0, 0, 0)


# The gate


def report(
    before: float,
    after: float,
    rms: float = 0.01,
    nan: int = 0,
    inf: int = 0,
    key: str = "map50_95",
) -> dict[str, Any]:
    return {
        "closeness": {"nan_count": nan, "inf_count": inf, "rms_relative": rms, "max_abs": 9.0},
        "reference": {key: before},
        "candidate": {key: after},
    }


TOLERANCE = {"rms_relative": 0.02, "map50_95_drop": 0.25, "top1_drop": 0.5}


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (report(0.75, 0.5), []),
        (
            report(0.75, 0.49999),
            ["mAP50-95 0.5000 against 0.7500 of the FP32 original, a drop of 0.25 is allowed"],
        ),
        (report(0.75, 0.9), []),
        (report(0.75, 0.75, rms=0.02), []),
        (
            report(0.75, 0.75, rms=0.0201),
            ["raw outputs differ by 0.02 (RMS, relative), 0.02 is allowed"],
        ),
        (
            report(0.75, 0.75, rms=1.234),
            ["raw outputs differ by 1.2 (RMS, relative), 0.02 is allowed"],
        ),
        (
            report(0.75, 0.75, rms=math.nan),
            ["raw outputs differ by nan (RMS, relative), 0.02 is allowed"],
        ),
        (report(0.75, 0.75, nan=2), ["2 NaN or Inf values in the outputs"]),
        (report(0.75, 0.75, inf=3), ["3 NaN or Inf values in the outputs"]),
        (report(0.75, 0.75, nan=2, inf=3, rms=9), ["5 NaN or Inf values in the outputs"]),
        (
            report(0.75, math.nan),
            ["mAP50-95 nan against 0.7500 of the FP32 original, a drop of 0.25 is allowed"],
        ),
        (
            report(0.0, 0.0),
            [
                "mAP50-95 of the FP32 original is 0: there is nothing to compare with; do the labels fit the model's classes?",
            ],
        ),
        (report(1.0, 0.5, key="top1"), []),
        (
            report(1.0, 0.25, key="top1"),
            ["top-1 0.2500 against 1.0000 of the FP32 original, a drop of 0.5 is allowed"],
        ),
        (
            report(0.75, 0.25, inf=1),
            [
                "1 NaN or Inf values in the outputs",
                "mAP50-95 0.2500 against 0.7500 of the FP32 original, a drop of 0.25 is allowed",
            ],
        ),
    ],
)
def test_the_gate_says_all_that_is_wrong(judged: dict[str, Any], said: list[str]) -> None:
    assert gate.failures(judged, TOLERANCE) == said


def test_the_distance_alone() -> None:
    assert list(gate.distance(report(1, 0, rms=0.5)["closeness"], {"rms_relative": 0.5})) == []


# Heads


@pytest.mark.parametrize(
    ("task", "shapes", "final"),
    [
        ("detect", [(1, 7, 84)], False),
        ("detect", [(1, 300, 6)], True),
        ("detect", [(1, 7, 6)], False),
        ("segment", [(1, 39, 84), (1, 32, 24, 24)], False),
        ("segment", [(1, 300, 38), (1, 32, 24, 24)], True),
        ("segment", [(1, 12, 84), (1, 5, 24, 24)], False),
        ("pose", [(1, 22, 84)], False),
        ("pose", [(1, 300, 21)], True),
        ("obb", [(1, 8, 84)], False),
        ("obb", [(1, 300, 7)], True),
        ("classify", [(1, 3)], False),
        ("classify", [(4, 3)], False),
    ],
)
def test_final_and_raw_outputs(task: str, shapes: list[tuple[int, ...]], final: bool) -> None:
    assert TaskMetadata(task, THREE, (5, 3) if task == "pose" else None).end2end(shapes) is final


@pytest.mark.parametrize(
    ("task", "shapes", "found"),
    [
        ("detect", [(1, 8, 84)], "(1, 8, 84)"),
        ("detect", [(1, 84, 7)], "(1, 84, 7)"),
        ("detect", [(1, 7)], "(1, 7)"),
        ("detect", [(1, 7, 84), (1, 32, 24, 24)], "(1, 7, 84) and (1, 32, 24, 24)"),
        ("segment", [(1, 39, 84)], "(1, 39, 84)"),
        ("segment", [(1, 38, 84), (1, 32, 24, 24)], "(1, 38, 84) and (1, 32, 24, 24)"),
        ("pose", [(1, 21, 84)], "(1, 21, 84)"),
        ("obb", [(1, 7, 84)], "(1, 7, 84)"),
        ("classify", [(1, 4)], "(1, 4)"),
        ("classify", [(1, 3), (1, 3)], "(1, 3) and (1, 3)"),
        ("classify", [(1, 3, 1)], "(1, 3, 1)"),
    ],
)
def test_outputs_of_no_task(task: str, shapes: list[tuple[int, ...]], found: str) -> None:
    with pytest.raises(ModelError) as error:
        TaskMetadata(task, THREE, (5, 3) if task == "pose" else None).end2end(shapes)
    assert str(error.value) == (
        f"outputs of the shape {found} are not those of a {task} model with 3 classes. "
        "Correct the model's task in params.yaml, or the `names` in its metadata"
    )


def test_what_each_task_is_judged_by() -> None:
    assert [head.metric_of(task).key for task in head.ULTRALYTICS_TASKS] == [
        "map50_95",
        "map50_95",
        "map50_95",
        "map50_95",
        "top1",
    ]
    assert head.metric_in({"top1": 0.5}) is head.TOP1
    assert head.metric_in({"map50_95": 0.5}) is head.MAP


# Images


def test_images_of_every_suffix_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    names = [
        "b.JPG",
        "a.jpg",
        "c.JPEG",
        "d.bmp",
        "e.Png",
        "f.WEBP",
        "g.txt",
        "h.jpg.part",
        "i.gif",
        "j",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    found = images.list_images(tmp_path, "detect")
    assert [path.name for path in found] == ["a.jpg", "b.JPG", "c.JPEG", "d.bmp", "e.Png", "f.WEBP"]


def test_images_of_classes_one_class_after_another(tmp_path: Path) -> None:
    for name in ("bee/1.png", "ant/2.png", "ant/1.JPG", "bee/0.png", "readme.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    found = images.list_images(tmp_path, "classify")
    assert [str(path.relative_to(tmp_path / "images")) for path in found] == [
        "ant/1.JPG",
        "ant/2.png",
        "bee/0.png",
        "bee/1.png",
    ]
    assert images.image_folder(tmp_path) == tmp_path / "images"
    assert images.image_folder(tmp_path / "images") == tmp_path / "images"
    assert images.list_images(tmp_path, "detect") == (tmp_path / "images/readme.png",)


def test_no_images(tmp_path: Path) -> None:
    suffixes = "Put .bmp, .jpeg, .jpg, .png, .webp files there"
    for folder, task, words in [
        (
            tmp_path / "none",
            "detect",
            f"{tmp_path}/none: no such folder. Correct the folder's name in params.yaml",
        ),
        (tmp_path, "detect", f"{tmp_path} holds no images. {suffixes}"),
        (tmp_path, "classify", f"{tmp_path} holds no folder of images for a class. {suffixes}"),
    ]:
        with pytest.raises(DataError) as error:
            images.list_images(folder, task)
        assert str(error.value) == words


def test_reading_an_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    cv2.imwrite(str(tmp_path / "grey.png"), pixels[:, :, 0])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([pixels, pixels[:, :, :1]]))
    assert np.array_equal(images.read_image(tmp_path / "a.png"), pixels)
    assert np.array_equal(images.read_image(tmp_path / "alpha.png"), pixels)
    assert np.array_equal(
        images.read_image(tmp_path / "grey.png"), np.repeat(pixels[:, :, :1], 3, axis=2)
    )
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    for name in ("empty.png", "broken.png", "none.png"):
        with pytest.raises(DataError) as error:
            images.read_image(tmp_path / name)
        assert (
            str(error.value)
            == f"{tmp_path}/{name} cannot be read as an image. Replace or remove it"
        )


def test_preprocessing_of_an_image_that_fits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    found = images.preprocess(pixels, 4, 6, "detect")
    assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.float32, (3, 4, 6), True)
    for channel in range(3):
        assert np.array_equal(
            found[channel], pixels[:, :, 2 - channel].astype(np.float32) / np.float32(255)
        )


@pytest.mark.parametrize(
    ("shape", "size", "top", "left", "inner"),
    [
        ((4, 4), (9, 4), 2, 0, (4, 4)),  # 5 rows are left: 2 above, 3 below
        ((4, 4), (4, 7), 0, 1, (4, 4)),
        ((4, 4), (8, 10), 0, 1, (8, 8)),
        ((4, 8), (4, 4), 1, 0, (2, 4)),
        ((10, 4), (5, 5), 0, 1, (5, 2)),
        ((3, 2), (6, 6), 0, 1, (6, 4)),
    ],
)
def test_where_an_image_lies_on_the_grey(
    shape: tuple[int, int],
    size: tuple[int, int],
    top: int,
    left: int,
    inner: tuple[int, int],
) -> None:
    pixels = np.random.default_rng(1).integers(150, 256, (*shape, 3), dtype=np.uint8)
    found = images.letterbox(pixels, *size)
    expected = np.full((*size, 3), 114, np.uint8)
    resized = (
        cv2.resize(pixels, inner[::-1], interpolation=cv2.INTER_LINEAR)
        if inner != shape
        else pixels
    )
    expected[top : top + inner[0], left : left + inner[1]] = resized
    assert np.array_equal(found, expected)


def test_a_classified_image_is_cropped_from_its_middle() -> None:
    """Twice as wide as asked for: the shorter side is fitted, a quarter is cut
    off on both sides.
    """
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = (10, 20, 30)
    found = images.preprocess(pixels, 8, 8, "classify")
    assert found.shape == (3, 8, 8)
    assert [
        sorted(set((channel * 255).round().astype(int).ravel().tolist())) for channel in found
    ] == [[30], [20], [10]]
    wide = images.preprocess(pixels, 4, 4, "detect")
    assert round(float(wide[0, 0, 0]) * 255) == 114


def test_a_batch_on_the_disk(tmp_path: Path) -> None:
    rows = [np.full((3, 2, 4), number, np.float32) for number in range(3)]
    images.save_batch(iter(rows), 3, (2, 4), tmp_path / "a.npy")
    found = np.load(tmp_path / "a.npy")
    assert (found.dtype, found.shape) == (np.float32, (3, 3, 2, 4))
    assert np.array_equal(found, np.stack(rows))


# Feeds and runners


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


# Scores


def test_tensors_are_float32_and_finite() -> None:
    given = [np.array([1.5, math.nan, math.inf, -math.inf], np.float16), np.array([2.0])]
    found = score.tensors(given)
    assert [tensor.tolist() for tensor in found] == [[1.5, 0, 0, 0], [2]]
    assert {tensor.dtype for tensor in found} == {torch.float32}


class Validator:
    """A recorder with the parts of Ultralytics' validator that a score reads."""

    def __init__(self, **more: Any) -> None:
        self.seen: list[Any] = []
        self.end2end: bool | None = None
        self.__dict__.update(more)

    def postprocess(self, raw: Any) -> Any:
        return ("post", raw)

    def update_metrics(self, found: Any, batch: Any) -> None:
        self.seen.append((found, batch, self.end2end))

    def get_stats(self) -> dict[str, float]:
        return {"metrics/accuracy_top1": 0.25, "metrics/accuracy_top5": 0.75}


def test_one_output_goes_alone_and_several_as_a_list() -> None:
    validator = Validator()
    counted = score.Score(TaskMetadata("detect", THREE), validator)
    counted.add([np.zeros((1, 7, 84))], {"a": 1})
    counted.add([np.ones((1, 300, 6))], {"a": 2})
    two = score.Score(TaskMetadata("segment", THREE), validator)
    two.add([np.zeros((1, 39, 84)), np.zeros((1, 32, 2, 2))], {"a": 3})
    (first, one, raw), (second, _, final), (third, _, _) = validator.seen
    assert (first[0], first[1].shape, one, raw) == ("post", (1, 7, 84), {"a": 1}, False)
    assert (second[1].shape, final) == ((1, 300, 6), True)
    assert isinstance(third[1], list)
    assert [tensor.shape for tensor in third[1]] == [(1, 39, 84), (1, 32, 2, 2)]


@pytest.mark.parametrize(
    ("task", "part"), [("detect", "box"), ("obb", "box"), ("segment", "seg"), ("pose", "pose")]
)
def test_the_metric_of_a_task_by_class(task: str, part: str) -> None:
    right = SimpleNamespace(
        ap_class_index=np.array([2, 0]),
        ap=np.array([0.5, 0.25]),
        map=np.float64(0.375),
        map50=np.float64(0.7),
    )
    wrong = SimpleNamespace(ap_class_index=np.array([1]), ap=np.array([0.9]), map=0.9, map50=0.9)
    metrics = SimpleNamespace(
        **{name: right if name == part else wrong for name in ("box", "seg", "pose")}
    )
    found = score.Score(TaskMetadata(task, THREE), Validator(metrics=metrics)).metrics()
    assert found == score.Metrics(head.MAP, 0.375, 0.7, {"cat": 0.5, "ant": 0.25})
    assert found.to_dict() == {
        "map50_95": 0.375,
        "map50": 0.7,
        "per_class": {"cat": 0.5, "ant": 0.25},
    }
    assert {type(value) for value in (found.value, found.secondary, *found.per_class.values())} == {
        float
    }


def test_the_share_of_right_first_guesses_of_each_class() -> None:
    """Two images of the ant, one right; three of the cat, all right; guesses of several batches."""
    targets = [torch.tensor([0]), torch.tensor([2, 2]), torch.tensor([0, 2])]
    pred = [
        torch.tensor([[0, 1, 2]]),
        torch.tensor([[2, 0, 1], [2, 1, 0]]),
        torch.tensor([[1, 0, 2], [2, 0, 1]]),
    ]
    found = score.Score(
        TaskMetadata("classify", THREE), Validator(targets=targets, pred=pred)
    ).metrics()
    assert found == score.Metrics(head.TOP1, 0.25, 0.75, {"ant": 0.5, "cat": 1.0})
    assert found.to_dict() == {"top1": 0.25, "top5": 0.75, "per_class": {"ant": 0.5, "cat": 1.0}}
    assert {type(value) for value in found.per_class.values()} == {float}


# Labels


def test_where_labels_lie(tmp_path: Path) -> None:
    assert labels.label_file(Path("a/images/b.c.png")) == Path("a/labels/b.c.txt")
    assert labels.label_file(Path("a/b/c.png")) == Path("a/b/labels/c.txt")


TRIANGLE = "0 0.1 0.1 0.2 0.1 0.2 0.2"
GOOD = [
    ("detect", "0 0.5 0.5 1 1"),
    ("detect", "2 1.01 -0.01 1.01 0"),
    ("detect", "1.0 0.5 0.5 0.1 0.1"),
    ("segment", TRIANGLE),
    ("segment", f"{TRIANGLE} 0.1 0.2"),
    ("segment", "0 -0.05 0.1 0.2 0.1 0.2 0.2"),
    ("segment", "0 0.5 0.5 0.5 0.5 0.5 0.5"),
    ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2"),
    ("obb", "0 -0.1 0.1 0.3 0.1 0.3 0.2 -0.1 0.2"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 1.01 -0.01 2 1.01 0.4 0"),
]
BAD = [
    ("detect", "0 0.5 0.5 0.1"),
    ("detect", "0 0.5 0.5 0.1 0.1 0.1"),
    ("detect", "-1 0.5 0.5 0.1 0.1"),
    ("detect", "0.5 0.5 0.5 0.1 0.1"),
    ("detect", "0 1.0101 0.5 0.1 0.1"),
    ("detect", "0 -0.0101 0.5 0.1 0.1"),
    ("detect", "0 0.5 0.5 1.0101 0.1"),
    ("detect", "0 0.5 0.5 -0.001 0.1"),
    ("detect", "0 0.5 0.5 0.1 -0.001"),
    ("detect", "0 0.5 0.5 0.1 nan"),
    ("detect", "inf 0 0 1 1"),
    ("detect", "a 0.5 0.5 0.1 0.1"),
    ("segment", "0 0.1 0.1 0.2 0.1"),
    ("segment", f"{TRIANGLE} 0.1"),
    ("segment", "0 0.1 0.1 0.2 0.1 0.2 2.2"),
    ("segment", "0 -0.3 0.1 -0.2 0.1 0.2 0.2"),
    ("obb", TRIANGLE),
    ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2 0.1"),
    ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 1.95"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 1.02 0.5 2 0.4 0.4 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 -0.02 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 -1 0.4 0.4 0"),
    ("pose", "0 1.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0"),
    ("pose", "0 0.5 0.5 0.1 -0.1 0.5 0.5 2 0.4 0.4 0"),
]


def write_labels(folder: Path, *texts: str) -> list[Path]:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number, text in enumerate(texts):
        (folder / "labels" / f"{number}.txt").write_text(text, encoding="utf-8")
    return [folder / "images" / f"{number}.png" for number in range(len(texts))]


@pytest.mark.parametrize(("task", "line"), GOOD)
def test_good_labels(tmp_path: Path, task: str, line: str) -> None:
    paths = write_labels(tmp_path, f"\ufeff{line}\n\n   \n", "")
    points = (2, 3) if task == "pose" else None
    number = int(float(line.split()[0]))
    assert labels.check_format(paths, task, points) == {paths[0]: {number}, paths[1]: set()}


@pytest.mark.parametrize(("task", "line"), BAD)
def test_bad_labels(tmp_path: Path, task: str, line: str) -> None:
    good = next(each for kind, each in GOOD if kind == task)
    paths = write_labels(tmp_path, f"{good}\n\n  {line}  \n")
    points = (2, 3) if task == "pose" else None
    with pytest.raises(DataError) as error:
        labels.check_format(paths, task, points)
    keypoints = " (2 of 3 values)" if points else ""
    assert str(error.value) == (
        f"{tmp_path}/labels/0.txt, line 3: {line!r} is not {labels._FORMATS[task]}{keypoints} with shares from 0 to 1. Correct the line"
    )


def test_a_long_bad_line_is_cut(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "x" * 100)
    with pytest.raises(DataError, match=f"line 1: '{'x' * 80}' is not"):
        labels.check_format(paths, "detect")


def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "")
    (tmp_path / "labels/0.txt").write_bytes(b"0 0.5 0.5 0.1 0.1\n\xff\n")
    with pytest.raises(DataError, match="line 2: '\ufffd' is not"):
        labels.check_format(paths, "detect")


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("0 0.5 0.5 0.1 0.1 0.5 0.5", True),
        ("0 0.5 0.5 0.1 0.1 0.5", False),
        ("0 0.5 0.5 0.1 0.1 0.5 -0.5", False),
        ("0 0.5 0.5 0.1 0.1 1.5 7 3", True),
    ],
)
def test_keypoints_of_an_unknown_shape(tmp_path: Path, line: str, good: bool) -> None:
    paths = write_labels(tmp_path, line)
    if good:
        assert labels.check_format(paths, "pose") == {paths[0]: {0}}
    else:
        with pytest.raises(
            DataError, match="is not `class x y width height` and the keypoints with shares"
        ):
            labels.check_format(paths, "pose")


def test_several_classes_and_files(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "0 0.5 0.5 1 1\n2 0.5 0.5 1 1\n0 0.5 0.5 1 1\n", "1 0.5 0.5 1 1")
    more = [*paths, tmp_path / "images/none.png"]
    assert labels.check_format(more, "detect") == {paths[0]: {0, 2}, paths[1]: {1}, more[2]: set()}
    assert labels.check_format(more, "classify") == {path: set() for path in more}
    labels.check_labels(more, TaskMetadata("detect", THREE))
    for names, unknown in (({0: "a", 1: "b"}, 2), ({1: "b", 2: "c"}, 0), ({5: "f"}, 0)):
        with pytest.raises(ModelError) as error:
            labels.check_labels(more, TaskMetadata("detect", names))
        count = len(names)
        assert str(error.value) == (
            f"{paths[0]}: its labels have class {unknown}, the model has {count} classes. Use the model's own data set"
        )


def test_no_labels_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        labels.check_format([tmp_path / "images/a.png", tmp_path / "images/b.png"], "detect")
    assert str(error.value) == (
        f"{tmp_path}/labels holds no labels for the images beside it. Put a text file beside each image's name there"
    )


def test_the_keypoints_of_the_model_are_asked_for(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0")
    labels.check_labels(paths, TaskMetadata("pose", THREE, (2, 3)))
    with pytest.raises(DataError, match=r"keypoints \(1 of 3 values\) with"):
        labels.check_labels(paths, TaskMetadata("pose", THREE, (1, 3)))


def test_folders_are_classes_of_the_model() -> None:
    paths = [
        Path("d/bee/1.png"),
        Path("d/ant/1.png"),
        Path("d/n02119789/1.png"),
        Path("d/dog/1.png"),
    ]
    labels.check_labels(paths[:2], TaskMetadata("classify", THREE))
    labels.check_labels(paths[2:3], TaskMetadata("classify", {0: "kit_fox"}))
    with pytest.raises(ModelError) as error:
        labels.check_labels(paths, TaskMetadata("classify", {**THREE, 3: "kit_fox"}))
    assert str(error.value) == (
        "d/dog: the model has no class 'dog'. Name each folder as a class of the model: ant, bee, cat, kit_fox"
    )
    many = {index: f"c{index}" for index in range(12)}
    with pytest.raises(
        ModelError, match=r"as a class of the model: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9$"
    ):
        labels.check_labels(paths, TaskMetadata("classify", many))


# Comparing


class Images:
    """Four images that count themselves, with the batches that belong to them."""

    def __init__(self) -> None:
        self.validators: list[Validator] = []

    def __len__(self) -> int:
        return 4

    def name(self, index: int) -> Path:
        return Path(f"{index}.png")

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], dict[str, Any]]]:
        for number in range(4):
            yield np.full((3, 2, 2), number, np.float32), {"number": number}

    def validator(self) -> Validator:
        empty = SimpleNamespace(
            ap_class_index=np.array([0]), ap=np.array([0.5]), map=0.5, map50=0.75
        )
        self.validators.append(Validator(metrics=SimpleNamespace(box=empty)))
        return self.validators[-1]


class Plus:
    """A runner whose output is the image's number plus a constant, in the shape of a detector's."""

    def __init__(self, more: float, begun: list[int], size: tuple[int, int] = (2, 2)) -> None:
        self.more, self.begun, self.size = more, begun, size

    def begin(self, image: NDArray[np.float32], pool: ThreadPoolExecutor) -> Any:
        self.begun.append(int(image[0, 0, 0]))
        return lambda: [np.full((1, 7, 1), image[0, 0, 0] + self.more, np.float32)]


def test_both_see_every_image_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, asked = Images(), list[Any]()

    def open_judge(folder: Path, head: TaskMetadata, reference: Any) -> Any:
        asked.extend([folder, head, reference])
        return nullcontext(LabelJudge(folder, head, opened))  # type: ignore[arg-type]

    monkeypatch.setattr(validation, "open_judge", open_judge)
    monkeypatch.setattr(validation, "WORKERS", 2)
    begun: list[int] = []
    said: list[tuple[int, int]] = []
    head_ = TaskMetadata("detect", THREE)
    first, second = Plus(1, begun, (6, 8)), Plus(1.5, begun)
    found = validation.compare(
        first, second, Path("folder"), head_, lambda *done: said.append(done)
    )
    assert asked == [Path("folder"), head_, first]
    assert begun == [0, 0, 1, 1, 2, 2, 3, 3]
    assert said == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [
        [batch["number"] for _, batch, _ in validator.seen] for validator in opened.validators
    ] == [[0, 1, 2, 3]] * 2
    values = [
        [float(found[1].max()) for found, _, _ in validator.seen] for validator in opened.validators
    ]
    assert values == [[1, 2, 3, 4], [1.5, 2.5, 3.5, 4.5]]
    assert found.closeness == OutputError(0.5, math.sqrt(4 * 0.25 / (1 + 4 + 9 + 16)), 0, 0)
    metrics = score.Metrics(head.MAP, 0.5, 0.75, {"ant": 0.5})
    assert (found.reference, found.candidate) == (metrics, metrics)
    plain = {"map50_95": 0.5, "map50": 0.75, "per_class": {"ant": 0.5}}
    closeness = {"max_abs": 0.5, "rms_relative": math.sqrt(1 / 30), "nan_count": 0, "inf_count": 0}
    assert found.to_dict() == {"closeness": closeness, "reference": plain, "candidate": plain}


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_so_many_are_drawn_ahead(count: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number

    given = validation._ahead(items(), count)
    for number in range(5):
        assert next(given) == number
        assert len(drawn) == min(number + count + 1, 5)
    assert list(given) == []


def test_graphs_are_compared_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(validation, "GraphRunner", lambda *given: given)
    monkeypatch.setattr(validation, "compare", lambda *given: asked.append(given))
    one, two, named = Path("one"), Path("two"), TaskMetadata("detect", THREE)
    validation.validate_graph(one, two, tmp_path, named, print)
    validation.validate_graph(one, two, tmp_path, named, print, (32, 64))
    assert asked == [
        ((one, (640, 640), None), (two, (640, 640), None), tmp_path, named, print),
        ((one, (32, 64), None), (two, (32, 64), None), tmp_path, named, print),
    ]
    with pytest.raises(ModelError) as error:
        validation.validate_graph(one, two, tmp_path, TaskMetadata("detect", {}), print)
    assert (
        str(error.value)
        == "one has no class names in its metadata. Give a file with them as `names` of the model in params.yaml"
    )


# Results


def detections(*rows: Sequence[float], anchors: int = 8) -> NDArray[np.float32]:
    """A raw output (1, 4 + 3 classes, anchors) of these (x, y, w, h, scores ...)."""
    found = np.zeros((1, 7, anchors), np.float32)
    for index, row in enumerate(rows):
        found[0, :, index] = row
    return found


def test_what_was_found_in_each_image() -> None:
    """The second image is twice as large as the graph's: its box is, too.

    The third row overlaps the first: NMS drops it.
    """
    sure, again = (8, 8, 8, 4, 0.9, 0.1, 0.0), (8, 8.5, 8, 4, 0.8, 0.1, 0.0)
    unsure = (4, 12, 2, 2, 0.0, 0.0, 0.3)
    outputs = np.concatenate(
        [detections(sure, unsure, again), detections((4, 12, 2, 2, 0.0, 0.0, 0.6))]
    )
    batch = np.zeros((2, 3, 16, 16), np.float32)
    pixels = [np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
    paths = [Path("a.png"), Path("b.png")]
    first, second = results.to_results(
        TaskMetadata("detect", THREE), [outputs], batch, pixels, paths, 0.5, 0.5
    )
    assert (first.path, second.path) == ("a.png", "b.png")
    assert (first.names, first.orig_img.shape, second.orig_img.shape) == (
        THREE,
        (16, 16, 3),
        (32, 32, 3),
    )
    assert first.boxes.xyxy.tolist() == [[4, 6, 12, 10]]
    assert [round(value, 4) for value in first.boxes.conf.tolist()] == [0.9]
    assert second.boxes.xyxy.tolist() == [[6, 22, 10, 26]]
    assert (results.describe(first), results.describe(second)) == ("1 ant", "1 cat")
    [less, _] = results.to_results(
        TaskMetadata("detect", THREE), [outputs], batch, pixels, paths, 0.25, 0.99
    )
    assert len(less.boxes) == 3
    drawn = results.draw(second)
    assert (drawn.shape, drawn.dtype) == ((32, 32, 3), np.uint8)
    assert drawn.max() > 0
    with pytest.raises(ValueError, match="zip"):
        results.to_results(
            TaskMetadata("detect", THREE), [outputs], batch, pixels, paths[:1], 0.5, 0.5
        )
    with pytest.raises(ModelError, match="not those of a detect model with 2 classes"):
        results.to_results(
            TaskMetadata("detect", {0: "a", 1: "b"}), [outputs], batch, pixels, paths, 0.5, 0.5
        )


def test_final_detections_are_taken_as_they_are() -> None:
    """An end-to-end head has no NMS left: overlapping boxes stay."""
    rows = np.array(
        [[[4, 6, 12, 10, 0.9, 1], [4, 6, 12, 10, 0.8, 1], [0, 0, 1, 1, 0.1, 0]]], np.float32
    )
    pixels = [np.zeros((16, 16, 3), np.uint8)]
    batch = np.zeros((1, 3, 16, 16), np.float32)
    [found] = results.to_results(
        TaskMetadata("detect", THREE), [rows], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert found.boxes.xyxy.tolist() == [[4, 6, 12, 10]] * 2
    assert results.describe(found) == "2 bees"


def test_keypoints_have_the_models_shape() -> None:
    raw = np.zeros((1, 7 + 6, 8), np.float32)
    raw[0, :, 0] = (8, 8, 8, 4, 0.9, 0.1, 0.0, 5, 6, 0.9, 7, 8, 0.9)
    batch = np.zeros((1, 3, 16, 16), np.float32)
    pixels = [np.zeros((16, 16, 3), np.uint8)]
    [found] = results.to_results(
        TaskMetadata("pose", THREE, (2, 3)), [raw], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert found.keypoints.data.shape == (1, 2, 3)
    assert found.keypoints.xy.tolist() == [[[5, 6], [7, 8]]]


def test_a_class_and_a_mask() -> None:
    batch = np.zeros((1, 3, 16, 16), np.float32)
    pixels = [np.zeros((16, 16, 3), np.uint8)]
    probabilities = np.array([[0.1, 0.7, 0.2]], np.float32)
    [found] = results.to_results(
        TaskMetadata("classify", THREE), [probabilities], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert (found.probs.top1, results.describe(found)) == (1, "bee 0.70, cat 0.20, ant 0.10")
    raw = np.zeros((1, 7 + 2, 8), np.float32)
    raw[0, :, 0] = (8, 8, 8, 4, 0.9, 0.1, 0.0, 1, 0)
    masks = np.stack([np.ones((4, 4)), np.zeros((4, 4))])[None].astype(np.float32)
    [found] = results.to_results(
        TaskMetadata("segment", THREE), [raw, masks], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert found.masks.data.shape == (1, 16, 16)
    assert int(found.masks.data.sum()) == 8 * 4


def test_predictors_do_not_save_or_talk() -> None:
    for task in head.ULTRALYTICS_TASKS:
        predictor = results._predictor(task)
        given = predictor.args
        assert (given.task, given.mode, given.save, given.verbose, given.device) == (
            task,
            "predict",
            False,
            False,
            "cpu",
        )
        assert (
            type(predictor).__name__.lower()
            == f"{ {'classify': 'classification', 'detect': 'detection', 'segment': 'segmentation'}.get(task, task) }predictor"
        )


def test_the_box_around_a_polygon() -> None:
    from enginery.vision.labels import _box

    assert _box([0.25, 0.5, 0.75, 0.5, 0.5, 1.0]) == [0.5, 0.75, 0.5, 0.5]
