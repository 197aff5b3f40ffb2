"""Labels in YOLO's text format, checked line by line before Ultralytics reads them: it would drop a
bad image without an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from enginery.errors import DataError, ModelError
from enginery.vision.folders import label_file
from enginery.vision.tasks import TaskMetadata

_FORMATS = {
    "detect": "`class x y width height` or `class x1 y1 x2 y2 x3 y3 ...`",
    "segment": "`class x1 y1 x2 y2 x3 y3 ...`",
    "obb": "`class x1 y1 x2 y2 x3 y3 x4 y4`",
    "pose": "`class x y width height` and the keypoints",
}
_MARGIN = 0.01  # Ultralytics takes what is so far outside of the image
_BOX, _OBB = 5, 9  # values of a line, with its class
_SHOWN = 80  # characters of a line in an error


def check_format(
    images: Sequence[Path], task: str, kpt_shape: tuple[int, int] | None = None
) -> dict[Path, set[int]]:
    """Read the labels of every image; returns the classes of each. No file: no objects.

    Raises:
        DataError: no image has labels, or a line is malformed.
    """
    if task == "classify":
        return {image: set() for image in images}
    files = {image: label_file(image) for image in images}
    if not any(file.is_file() for file in files.values()):
        place = files[images[0]].parent
        raise DataError(
            f"{place} holds no labels for the images beside it",
            "Put a text file beside each image's name there",
        )
    return {image: _classes(file, task, kpt_shape) for image, file in files.items()}


def check_labels(images: Sequence[Path], head: TaskMetadata) -> None:
    """The same, and that the model has every class and keypoint of the labels.

    Raises:
        DataError: as above. ModelError: labels have what the model has not.
    """
    if head.task == "classify":
        _check_folders(images, head.names)
    for image, classes in check_format(images, head.task, head.kpt_shape).items():
        unknown = sorted(classes - set(head.names))
        if unknown:
            what = (
                f"{image}: its labels have class {unknown[0]}, the model has {len(head.names)} "
                "classes"
            )
            raise ModelError(what, "Use the model's own data set")


def class_indexes(images: Sequence[Path], names: Mapping[int, str]) -> list[int]:
    """The number of the class that each image's folder names; folders were checked before."""
    from ultralytics.nn.autobackend import check_class_names

    folders = sorted({image.parent.name for image in images})
    words = dict(zip(folders, check_class_names(folders).values(), strict=True))
    numbers = {word: index for index, word in check_class_names(dict(names)).items()}
    return [numbers[words[image.parent.name]] for image in images]


def _check_folders(images: Sequence[Path], names: Mapping[int, str]) -> None:
    from ultralytics.nn.autobackend import (
        check_class_names,  # ImageNet's codes as words, as Ultralytics' data set has them
    )

    folders = sorted({image.parent for image in images})
    words, known = (
        check_class_names([folder.name for folder in folders]),
        check_class_names(dict(names)).values(),
    )
    for index, folder in enumerate(folders):
        if words[index] not in known:
            some = ", ".join(list(known)[:10])
            raise ModelError(
                f"{folder}: the model has no class {folder.name!r}",
                f"Name each folder as a class of the model: {some}",
            )


def _classes(file: Path, task: str, kpt_shape: tuple[int, int] | None) -> set[int]:
    if not file.is_file():
        if file.exists():
            raise DataError(
                f"{file} is no file, but labels of an image are read there", "Rename or remove it"
            )
        return set()
    found, boxes = set(), set()
    for number, line in enumerate(
        file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1
    ):
        if line.strip():
            values = _numbers(line)
            if not _is_label(values, task, kpt_shape):
                where = f"{file}, line {number}: {line.strip()[:_SHOWN]!r}"
                keypoints = f" ({kpt_shape[0]} of {kpt_shape[1]} values)" if kpt_shape else ""
                raise DataError(
                    f"{where} is not {_FORMATS[task]}{keypoints} with shares from 0 to 1",
                    "Correct the line",
                )
            boxes.add(len(values) == _BOX)
            found.add(int(values[0]))
    if task == "detect" and len(boxes) > 1:
        raise DataError(
            f"{file} has both boxes and polygons, and Ultralytics takes no such file",
            "Write all of its lines as one of them",
        )
    return found


def _numbers(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return []


def _is_label(values: Sequence[float], task: str, kpt_shape: tuple[int, int] | None) -> bool:
    if (
        not _has_columns(len(values), task, kpt_shape)
        or not np.isfinite(values).all()
        or values[0] < 0
        or values[0] % 1
    ):
        return False
    is_polygon = task in ("segment", "obb") or (task == "detect" and len(values) > _BOX)
    box = _box(values[1:]) if is_polygon else list(values[1:5])
    inside = all(-_MARGIN <= value <= 1 + _MARGIN for value in box) and min(box[2:]) >= 0
    return inside and _keypoints_inside(values[5:], kpt_shape) if task == "pose" else inside


def _has_columns(count: int, task: str, kpt_shape: tuple[int, int] | None) -> bool:
    if task == "pose":
        return count == 5 + kpt_shape[0] * kpt_shape[1] if kpt_shape else count > 6
    return (
        count == _OBB
        if task == "obb"
        else (count > _BOX and count % 2 == 1) or (task == "detect" and count == _BOX)
    )


def _box(points: Sequence[float]) -> list[float]:
    """The centre and size of the box around a polygon: that is what must lie in the image, a corner
    may be outside.
    """
    corners = np.reshape(points, (-1, 2))
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [*((low + high) / 2), *(high - low)]


def _keypoints_inside(values: Sequence[float], kpt_shape: tuple[int, int] | None) -> bool:
    places = np.reshape(values, (-1, kpt_shape[1]))[:, :2] if kpt_shape else np.zeros(0)
    return min(values) >= -_MARGIN and bool((places <= 1 + _MARGIN).all())
