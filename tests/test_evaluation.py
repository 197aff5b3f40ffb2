"""Images, labels, closeness and mAP."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import cv2
import numpy as np
import pytest

from enginery.actions.predict import picture_names
from enginery.demo.dataset import write_dataset
from enginery.demo.scenes import CLASSES
from enginery.errors import DataError, ModelError
from enginery.evaluation.compare import Accumulator
from enginery.evaluation.runners import RecordedRunner
from enginery.evaluation.validation import GraphReport, compare
from enginery.graphs.session import WORKERS
from enginery.sources.ultralytics_compat import import_torchvision
from enginery.vision.feeds import extents
from enginery.vision.images import list_images, preprocess, read_image
from enginery.vision.labels import check_format, check_labels
from enginery.vision.tasks import TaskMetadata


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data ü", range(2), 96)
    return tmp_path / "data ü"


@pytest.mark.parametrize("shape", [(100, 60), (61, 97), (640, 640), (480, 641)])
def test_preprocessing_is_that_of_ultralytics(shape: tuple[int, int]) -> None:
    from ultralytics.data.augment import LetterBox as Theirs

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    ours = preprocess(image, 128, 160, "detect")
    theirs = Theirs((128, 160), auto=False)(image=image)[:, :, ::-1].transpose(
        2, 0, 1
    ) / np.float32(255)
    assert np.array_equal(ours, theirs)


def test_images_are_sorted_and_bad_ones_named(folder: Path, tmp_path: Path) -> None:
    images = list_images(folder, "detect")
    assert [path.name for path in images] == ["000000.jpg", "000001.jpg"]
    images[0].write_bytes(images[0].read_bytes()[:20])
    with pytest.raises(DataError, match=r"000000\.jpg cannot be read"):
        read_image(images[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        list_images(tmp_path / "empty", "detect")
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "nowhere", "detect")


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("detect", "0 0.5 0.5 0.1"),
        ("detect", "x 0.5 0.5 0.1 0.1"),
        ("detect", "0 0.5 1.5 0.1 0.1"),
        ("detect", "0.5 0.5 0.5 0.1 0.1"),
        ("detect", "0 0.5 0.5 nan 0.1"),
        ("detect", "0 0.5 0.5 -0.005 0.1"),
        ("segment", "0 0.1 0.1 0.2 0.2"),
        ("segment", "0 0.1 0.1 0.2 0.2 0.3"),
        ("segment", "0 0.1 0.1 0.2 0.2 0.3 3"),
        ("obb", "0 0.5 0.5 0.1 0.1"),
        ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 1.9"),
        ("pose", "0 0.5 0.5 0.1 0.1"),
        ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4"),
        ("pose", "0 0.5 0.5 0.1 0.1 0.5 1.5 2 0.4 0.4 0"),
    ],
)
def test_malformed_labels_are_named(folder: Path, task: str, line: str) -> None:
    good = {
        "detect": "0 0.5 0.5 0.1 0.1",
        "segment": "0 0.1 0.1 0.2 0.1 0.2 0.2",
        "obb": "0 -0.05 0.1 0.2 0.1 0.2 0.2 0.1 0.2",
        "pose": "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0",
    }[task]
    for path in (folder / "labels").iterdir():
        path.write_text(f"\ufeff{good}\n\n", encoding="utf-8")
    points = (2, 3) if task == "pose" else None
    assert set().union(*check_format(list_images(folder, task), task, points).values()) == {0}
    (folder / "labels/000001.txt").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=r"000001\.txt, line 2: .* is not `class"):
        check_format(list_images(folder, task), task, points)


def test_labels_that_are_missing_or_of_another_model(folder: Path) -> None:
    images = list_images(folder, "detect")
    with pytest.raises(ModelError, match=r"its labels have class \d, the model has 1 classes"):
        check_labels(images, TaskMetadata("detect", {0: "disc"}))
    for path in (folder / "labels").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no labels"):
        check_format(images, "detect")
    (folder / "classes/dog").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no folder of images for a class"):
        list_images(folder / "classes", "classify")
    images[0].rename(folder / "classes/dog/1.jpg")
    with pytest.raises(ModelError, match=r"classes/dog: the model has no class 'dog'"):
        check_labels(
            list_images(folder / "classes", "classify"), TaskMetadata("classify", {0: "cat"})
        )


LABELS = np.array([[0, 0.25, 0.25, 0.2, 0.2], [1, 0.75, 0.75, 0.3, 0.2]], np.float32)


def raw_output(labels: np.ndarray) -> np.ndarray:
    """What a perfect detector of two classes gives for 96 x 96 pixels: (1, 6, n)."""
    output = np.zeros((1, 6, len(labels)), np.float32)
    output[0, :4] = labels[:, 1:5].T * 96
    output[0, 4 + labels[:, 0].astype(int), np.arange(len(labels))] = 0.9
    return output


def compared(folder: Path, *outputs: np.ndarray) -> GraphReport:
    """Two runners that give the same for both images of a folder."""
    for path in (folder / "labels").iterdir():
        path.write_text(
            "".join(f"{int(label)} {' '.join(map(str, box))}\n" for label, *box in LABELS)
        )
    reference, candidate = (
        RecordedRunner([np.concatenate([output] * 2)], (96, 96)) for output in outputs
    )
    return compare(
        reference,
        candidate,
        folder,
        TaskMetadata("detect", {0: "a", 1: "b"}),
        lambda done, total: None,
    )


def test_a_perfect_detector_has_map_1_and_a_shifted_one_less(folder: Path) -> None:
    report = compared(
        folder, raw_output(LABELS), raw_output(LABELS + np.array([0, 0.03, 0, 0, 0], np.float32))
    )
    assert report.reference.value == pytest.approx(
        0.995, abs=0.001
    )  # Ultralytics' interpolation ends at 0.995
    assert 0.3 < report.candidate.value < 0.9
    assert report.to_dict()["candidate"]["map50_95"] == report.candidate.value
    assert sorted(path.name for path in folder.iterdir()) == [
        "images",
        "labels",
    ]  # Ultralytics' labels.cache went elsewhere


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_detector_that_sees_nothing_or_gives_no_numbers_has_map_0(
    folder: Path, value: float
) -> None:
    report = compared(folder, raw_output(LABELS), np.full((1, 6, 2), value, np.float32))
    assert report.candidate.value == 0.0
    assert set(report.candidate.per_class) == {"a", "b"}
    assert report.closeness.nan_count + report.closeness.inf_count == (0 if value == 0 else 24)


def test_outputs_of_another_task_are_refused(folder: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"outputs of the shape \(1, 9, 2\) are not those of a detect model with 2 classes",
    ):
        compared(folder, raw_output(LABELS), np.zeros((1, 9, 2), np.float32))


def test_images_that_ultralytics_would_leave_out_are_named(folder: Path) -> None:
    image = list_images(folder, "detect")[1]
    cv2.imwrite(str(image), np.zeros((9, 30, 3), np.uint8))
    with pytest.raises(DataError, match=r"000001\.jpg has fewer than 10 pixels"):
        compared(folder, raw_output(LABELS), raw_output(LABELS))
    image.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000001\.jpg cannot be read as an image"):
        compared(folder, raw_output(LABELS), raw_output(LABELS))


@pytest.mark.parametrize("first", [0, 1])
def test_images_that_only_opencv_takes_are_named(folder: Path, first: int) -> None:
    from PIL import Image

    images = list_images(folder, "detect")
    for image in images[first:]:
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(image, "GIF")
    before = images[1].read_bytes()
    with pytest.raises(
        DataError, match=rf"{images[first].name} is no image that Ultralytics takes"
    ):
        compared(folder, raw_output(LABELS), raw_output(LABELS))
    assert images[1].read_bytes() == before


@pytest.mark.parametrize("shape", [(100, 60), (61, 97), (224, 224)])
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_preprocessing_to_classify_is_that_of_ultralytics(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    from PIL import Image

    import_torchvision()
    from ultralytics.data.augment import classify_transforms

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = classify_transforms(size)(Image.fromarray(image[:, :, ::-1]))
    assert np.array_equal(preprocess(image, *size, "classify"), theirs.numpy())


def test_closeness_counts_what_is_not_a_number() -> None:
    added = Accumulator()
    added.add([np.array([3.0, 4.0])], [np.array([3.0, 4.5])])
    added.add([np.array([1.0, 1.0])], [np.array([np.nan, np.inf])])
    closeness = added.closeness()
    assert (closeness.nan_count, closeness.inf_count, closeness.max_abs) == (1, 1, 0.5)
    assert closeness.rms_relative == pytest.approx(0.5 / np.sqrt(27))


def test_a_picture_is_read_as_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((4, 4, 3), (255, 0, 0), np.uint8))
    image = preprocess(read_image(tmp_path / "blue.png"), 4, 4, "detect")
    assert image[:, 0, 0].tolist() == [0.0, 0.0, 1.0]


def test_a_graph_is_fed_at_its_own_sizes_and_open_ones_at_the_models() -> None:
    assert extents((2, 3, 64, 96), (320, 640)) == (2, 64, 96)
    assert extents(("batch", 3, "height", "width"), (320, 640)) == (1, 320, 640)


def test_pictures_of_images_with_one_name_are_told_apart() -> None:
    paths = [
        Path(name)
        for name in ("x/1.jpg", "x/1.png", "1-2.png", "a/x/2.png", "b/x/2.png", "x/1.jpg")
    ]
    assert list(picture_names(paths).values()) == ["1", "1-2", "1-2-2", "2", "2-2"]


def test_images_are_run_side_by_side_and_compared_in_their_order(tmp_path: Path) -> None:
    class Slower:
        """The first images take longest."""

        size = (64, 64)

        def __init__(self) -> None:
            self.begun, self.given = 0, 0

        def begin(self, image: np.ndarray, pool: Executor) -> Callable[[], list[np.ndarray]]:  # type: ignore[type-arg]
            number, self.begun = self.begun, self.begun + 1

            def run() -> list[np.ndarray]:  # type: ignore[type-arg]
                time.sleep(0.05 / (1 + number))
                return [np.full((1, 4 + len(CLASSES), 84), number, np.float32)]

            def wait() -> list[np.ndarray]:  # type: ignore[type-arg]
                outputs = future.result()
                assert outputs[0][0, 0, 0] == self.given
                self.given += 1
                ahead.append(self.begun - self.given)
                return outputs

            future = pool.submit(run)
            return wait

    ahead: list[int] = []
    count = write_dataset(tmp_path, range(6), 64)
    report = compare(
        Slower(),
        Slower(),
        tmp_path,
        TaskMetadata("detect", dict(enumerate(CLASSES))),
        lambda done, total: None,
    )
    assert report.closeness.max_abs == 0
    assert len(ahead) == 2 * count == 12
    assert 0 < max(ahead) <= WORKERS
