"""The part of a project's data set that a step reads, where one folder holds all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from enginery.datasets import coco, yolo
from enginery.datasets.interface import Dataset
from enginery.datasets.sampling import sample
from enginery.errors import DataError

Part = Literal["validation", "calibration"]


def split_images(folder: Path, part: Part) -> tuple[Path, ...] | None:
    """The validation images of a data set's folder, or a sample of its `train` images; None where
    the folder has no such parts: then all of it is meant.

    Raises:
        DataError: the part is not there, or lies outside of the folder.
    """
    if coco.FORMAT.reads(folder):
        what = f"{folder} has its labels in COCO's JSON"
        raise DataError(what, f"`enginery add-model --data {folder}` copies it with labels as text")
    if not yolo.has_splits(folder):
        return None
    dataset = yolo.FORMAT.read(folder)
    images = dataset.validation if part == "validation" else _calibration(dataset, folder)
    outside = [image for image in images if not _is_below(image, folder)]
    if outside:
        what = f"{folder} names {outside[0]}, which lies outside of it: DVC would not see it change"
        raise DataError(what, "Put the whole data set there, or copy it with `enginery add-model`")
    return images


def _calibration(dataset: Dataset, folder: Path) -> tuple[Path, ...]:
    images = sample(dataset)
    if not images:
        what = f"{folder} has no `train` images that are not validation images, too"
        raise DataError(what, "INT8 needs some: name a folder of images under `int8`")
    return images


def _is_below(image: Path, folder: Path) -> bool:
    return image.resolve().is_relative_to(folder.resolve())
