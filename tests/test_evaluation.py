"""Images, labels, closeness and mAP."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from enginery.demo.dataset import write_dataset
from enginery.errors import DataError
from enginery.evaluation.compare import Accumulator
from enginery.evaluation.detection import DetectionScore
from enginery.evaluation.images import LetterBox, list_images, preprocess, read_image, read_labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data ü", range(2), 96)
    return tmp_path / "data ü"


@pytest.mark.parametrize("shape", [(100, 60), (61, 97), (640, 640), (480, 641)])
def test_preprocessing_is_that_of_ultralytics(shape: tuple[int, int]) -> None:
    from ultralytics.data.augment import LetterBox as Theirs

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    ours, _ = preprocess(image, 128, 160)
    theirs = Theirs((128, 160), auto=False)(image=image)[:, :, ::-1].transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(ours, theirs)


def test_images_are_sorted_and_bad_ones_named(folder: Path, tmp_path: Path) -> None:
    images = list_images(folder)
    assert [path.name for path in images] == ["000000.jpg", "000001.jpg"]
    images[0].write_bytes(images[0].read_bytes()[:20])
    with pytest.raises(DataError, match=r"000000\.jpg cannot be read"):
        read_image(images[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        list_images(tmp_path / "empty")
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "nowhere")


def test_labels_missing_or_malformed(folder: Path) -> None:
    images = list_images(folder)
    label = folder / "labels/000001.txt"
    for line in ("0 0.5 0.5 0.1", "x 0.5 0.5 0.1 0.1", "0 0.5 1.5 0.1 0.1", "0.5 0.5 0.5 0.1 0.1"):
        label.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
        with pytest.raises(DataError, match=r"000001\.txt, line 2"):
            read_labels(folder, images)
    for path in (folder / "labels").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no labels"):
        read_labels(folder, images)


def raw_output(labels: np.ndarray, size: int, classes: int) -> np.ndarray:
    """What a perfect detector gives: (1, 4 + classes, n) with boxes in pixels."""
    output = np.zeros((1, 4 + classes, len(labels)), np.float32)
    output[0, :4] = labels[:, 1:5].T * size
    output[0, 4 + labels[:, 0].astype(int), np.arange(len(labels))] = 0.9
    return output


def test_a_perfect_detector_has_map_1_and_a_shifted_one_less() -> None:
    labels = np.array([[0, 0.25, 0.25, 0.2, 0.2], [1, 0.75, 0.75, 0.3, 0.2]], np.float32)
    fit = LetterBox(2.0, 0, 0)
    perfect, shifted, silent = (DetectionScore({0: "a", 1: "b"}) for _ in range(3))
    moved = labels + np.array([0, 0.03, 0, 0, 0], np.float32)
    perfect.add(raw_output(labels, 128, 2), labels, (64, 64), fit)
    shifted.add(raw_output(moved, 128, 2), labels, (64, 64), fit)
    silent.add(np.zeros((1, 6, 4), np.float32), labels, (64, 64), fit)
    assert perfect.metrics().map50_95 == pytest.approx(0.995, abs=0.001)  # Ultralytics' interpolation ends at 0.995
    assert 0.3 < shifted.metrics().map50_95 < 0.9
    assert silent.metrics().map50_95 == 0.0


def test_closeness_counts_what_is_not_a_number() -> None:
    added = Accumulator()
    added.add([np.array([3.0, 4.0])], [np.array([3.0, 4.5])])
    added.add([np.array([1.0, 1.0])], [np.array([np.nan, np.inf])])
    closeness = added.closeness()
    assert (closeness.nan_count, closeness.inf_count, closeness.max_abs) == (1, 1, 0.5)
    assert closeness.rms_relative == pytest.approx(0.5 / np.sqrt(27))


def test_a_picture_is_read_as_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((4, 4, 3), (255, 0, 0), np.uint8))
    image, _ = preprocess(read_image(tmp_path / "blue.png"), 4, 4)
    assert image[:, 0, 0].tolist() == [0.0, 0.0, 1.0]
