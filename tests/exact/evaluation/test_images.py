"""Images of a data set: which, how they are read, fitted and cropped, and batches on the disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from enginery.errors import DataError
from enginery.vision import images


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
