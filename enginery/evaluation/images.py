"""Images and labels, and the one preprocessing function of calibration, validation and inference.

A data set is a folder with images/ and labels/ (YOLO's text format), or a folder of images with labels/ beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from enginery.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FILL = 114


@dataclass(frozen=True)
class LetterBox:
    """How an image was fitted: pixels times `scale`, then moved right by `left` and down by `top`."""

    scale: float
    left: int
    top: int


def image_folder(folder: Path) -> Path:
    """Where a data set's images lie: in its images/, or in itself."""
    return folder / "images" if (folder / "images").is_dir() else folder


def list_images(folder: Path) -> tuple[Path, ...]:
    """A data set's images, sorted.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    place = image_folder(folder)
    if not place.is_dir():
        raise DataError(f"{folder}: no such folder", "Correct the folder's name in params.yaml")
    found = tuple(sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES))
    if not found:
        raise DataError(f"{place} holds no images", f"Put {', '.join(SUFFIXES)} files there")
    return found


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as (height, width, 3) BGR.

    Raises:
        DataError: the file is missing or broken.
    """
    data = np.fromfile(path, dtype=np.uint8) if path.is_file() else np.empty(0, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise DataError(f"{path} cannot be read as an image", "Replace or remove it")
    return np.asarray(image, dtype=np.uint8)


def preprocess(image: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[np.float32], LetterBox]:
    """Fit a BGR image into (3, height, width) RGB, 0 to 1, centred on grey, as Ultralytics' LetterBox does."""
    rows, columns = image.shape[:2]
    scale = min(height / rows, width / columns)
    new_columns, new_rows = round(columns * scale), round(rows * scale)
    if (new_rows, new_columns) != (rows, columns):
        image = np.asarray(cv2.resize(image, (new_columns, new_rows), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    # The 0.1 sends an odd pixel to the bottom and right, where Ultralytics puts it.
    top, left = round((height - new_rows) / 2 - 0.1), round((width - new_columns) / 2 - 0.1)
    canvas = np.full((height, width, 3), FILL, np.uint8)
    canvas[top : top + new_rows, left : left + new_columns] = image
    chw = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1))
    return chw.astype(np.float32) / np.float32(255), LetterBox(scale, left, top)


def save_batch(images: Sequence[Path], size: tuple[int, int], out: Path, progress: Callable[[int, int], None]) -> None:
    """Images at (height, width) as one float32 .npy (n, 3, height, width), written row by row."""
    rows = np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=(len(images), 3, *size))
    for index, path in enumerate(images):
        rows[index] = preprocess(read_image(path), *size)[0]
        progress(index + 1, len(images))
    rows.flush()


def read_labels(folder: Path, images: Sequence[Path]) -> list[NDArray[np.float32]]:
    """Each image's objects as (n, 5): class, then centre and size as shares of the image. No file: no objects.

    Raises:
        DataError: no image has labels, or a line is malformed.
    """
    place = images[0].parent.parent / "labels" if images[0].parent.name == "images" else folder / "labels"
    files = [place / f"{image.stem}.txt" for image in images]
    if not any(file.is_file() for file in files):
        raise DataError(f"{place} holds no labels for the images of {folder}", "Put a text file beside each image's name there")
    return [_read_label(file) if file.is_file() else np.empty((0, 5), np.float32) for file in files]


def _read_label(file: Path) -> NDArray[np.float32]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if line.strip():
            rows.append(_parse(line, f"{file}, line {number}"))
    return np.array(rows, np.float32).reshape(-1, 5)


def _parse(line: str, where: str) -> list[float]:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != 5 or values[0] < 0 or values[0] % 1 or not all(0 <= value <= 1 for value in values[1:]):
        raise DataError(f"{where}: {line.strip()!r} is not `class x y width height` with shares from 0 to 1", "Correct the line")
    return values
