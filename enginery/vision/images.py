"""Images, and the one preprocessing function of calibration, comparison and inference.

A data set is a folder with images/ and labels/ (YOLO's text format), or a folder of images with
labels/ or label files beside them; to classify, a folder of images for each class. A folder may
hold all of a data set: a data.yaml, or images of `train` and `val` apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enginery.datasets.splits import Part, split_images
from enginery.errors import DataError
from enginery.project.inputs import check_plain
from enginery.vision.folders import ARRAYS, SUFFIXES, image_folder, samples
from enginery.vision.preprocess import Preprocess

FILL = 114
_SMALLEST = 10  # pixels; Ultralytics leaves smaller images out
_DECODERS = min(len(os.sched_getaffinity(0)), 8)


def list_images(
    folder: Path, task: str, part: Part = "validation", labelled: bool = True
) -> tuple[Path, ...]:
    """A data set's images, sorted; to classify, those of one class after those of another. Of a
    folder with `train` and `val` images, those that are for this part. Where nothing is `labelled`,
    there are no folders of classes either.

    Raises:
        DataError: there is no such folder, no image in it, or something else than files.
    """
    check_plain(folder)
    by_class = task == "classify" and labelled
    return split_images(folder, part) or _all_images(folder, by_class)


def _all_images(folder: Path, by_class: bool) -> tuple[Path, ...]:
    place = image_folder(folder)
    if not place.is_dir():
        raise DataError(f"{folder}: no such folder", "Correct the folder's name in params.yaml")
    places = sorted(path for path in place.iterdir() if path.is_dir()) if by_class else [place]
    found = tuple(path for each in places for path in samples(each.iterdir()))
    folders = [path for path in found if path.is_dir()]
    if folders:
        raise DataError(
            f"{folders[0]} is a folder with the name of an image", "Rename or remove it"
        )
    if not found:
        where = (
            f"{place} holds no folder of images for a class"
            if by_class
            else f"{place} holds no images"
        )
        raise DataError(where, f"Put {', '.join(SUFFIXES)} files there")
    return found


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as (height, width, 3) BGR.

    Raises:
        DataError: the file is missing, broken or too large for OpenCV.
    """
    data = np.fromfile(path, dtype=np.uint8) if path.is_file() else np.empty(0, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise DataError(
            f"{path} cannot be read as an image: {_reason(error)}", "Replace or remove it"
        ) from None
    if image is None:
        raise DataError(f"{path} cannot be read as an image", "Replace or remove it")
    return np.asarray(image, dtype=np.uint8)


def check_images(images: Iterable[Path]) -> None:
    """Decode every image: Ultralytics would leave a broken one out without an error.

    Raises:
        DataError: one cannot be read, or is too small.
    """
    with ThreadPoolExecutor(_DECODERS) as pool:
        for _ in pool.map(_check, images):
            pass


def _check(path: Path) -> None:
    if path.suffix.lower() in ARRAYS:
        return  # whoever feeds it knows what it must be
    if min(read_image(path).shape[:2]) < _SMALLEST:
        raise DataError(
            f"{path} has fewer than {_SMALLEST} pixels in height or width", "Replace or remove it"
        )


def _reason(error: cv2.error) -> str:
    if "CV_IO_MAX_IMAGE_" in str(error):  # the name of the variable that sets OpenCV's limit
        return "it has more pixels than OpenCV reads"
    return f"OpenCV says {' '.join((error.err or str(error)).split())}"


def preprocess(
    image: NDArray[np.uint8], height: int, width: int, task: str, how: Preprocess | None = None
) -> NDArray[Any]:
    """Fit a BGR image into (3, height, width) RGB, 0 to 1, as Ultralytics' inference does: centred
    on grey; to classify, cropped. Or as `how` says.
    """
    fitted = fit(image, height, width, task, how)
    if how:
        return how.finish(fitted)
    chw = np.ascontiguousarray(fitted[:, :, ::-1].transpose(2, 0, 1))
    return chw.astype(np.float32) / np.float32(255)


def fit(
    image: NDArray[np.uint8], height: int, width: int, task: str, how: Preprocess | None = None
) -> NDArray[np.uint8]:
    """A BGR image as (height, width, 3) BGR, as `preprocess` fits it."""
    if how:
        return how.fit(image, height, width)
    return _crop(image, height, width) if task == "classify" else letterbox(image, height, width)


def to_pixels(
    image: NDArray[np.uint8], height: int, width: int, task: str, how: Preprocess | None = None
) -> NDArray[np.uint8]:
    """As `preprocess`, without type, normalization and order of axes: the bytes of (height, width,
    channels) in the shape (channels, height, width), as an engine with `input: uint8` takes them.
    """
    plain = replace(how or Preprocess(), mean=(0.0,), std=(1.0,), layout="nhwc", dtype="uint8")
    crop = how is None and task == "classify"
    fitted = _crop(image, height, width) if crop else plain.fit(image, height, width)
    return plain.finish(fitted).reshape(plain.channels, height, width)


def letterbox(
    image: NDArray[np.uint8], height: int, width: int, fill: int = FILL, smooth: bool = True
) -> NDArray[np.uint8]:
    """An image (or a mask) as large as fits, in the middle of (height, width)."""
    rows, columns = image.shape[:2]
    scale = min(height / rows, width / columns)
    new_columns, new_rows = round(columns * scale), round(rows * scale)
    if (new_rows, new_columns) != (rows, columns):
        image = np.asarray(
            cv2.resize(
                image,
                (new_columns, new_rows),
                interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST,
            ),
            dtype=np.uint8,
        )
    # The 0.1 sends an odd pixel to the bottom and right, where Ultralytics puts it.
    top, left = round((height - new_rows) / 2 - 0.1), round((width - new_columns) / 2 - 0.1)
    canvas = np.full((height, width, *image.shape[2:]), fill, np.uint8)
    canvas[top : top + new_rows, left : left + new_columns] = image
    return canvas


def save_batch(
    images: Iterable[NDArray[np.float32]], count: int, size: tuple[int, int], out: Path
) -> None:
    """`count` images (3, height, width) of `size` (height, width) as one float32 .npy, one by one:
    they need not fit into memory.
    """
    rows = np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=(count, 3, *size))
    for index, image in enumerate(images):
        rows[index] = image
    rows.flush()


def _crop(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    from PIL import Image

    # Pillow resizes unlike OpenCV, and these models were trained on what it gives. Channels are
    # resized each alone: BGR stays BGR.
    return np.asarray(_resize_and_crop(height, width)(Image.fromarray(image)), dtype=np.uint8)


@cache
def _resize_and_crop(height: int, width: int) -> Any:
    """Ultralytics' transforms without the two last, which make a tensor and
    normalize by 0 and 1.
    """
    from enginery.sources.ultralytics_compat import import_torchvision

    transforms = import_torchvision().transforms
    from ultralytics.data.augment import classify_transforms

    return transforms.Compose(classify_transforms((height, width)).transforms[:2])
