"""Data sets as teams have them, one module a format behind `interface.Format`.

A data set's `val` images, with their labels, are a project's validation images. A sample of its
`train` images is the calibration images.
"""

from __future__ import annotations

from pathlib import Path

from enginery.datasets import coco, yolo
from enginery.datasets.interface import Dataset, Format
from enginery.errors import DataError

_FORMATS: tuple[Format, ...] = (coco.FORMAT, yolo.FORMAT)


def read_dataset(path: Path) -> Dataset:
    """Read a data set: a file that describes it, or its folder.

    Raises:
        DataError: it is none, names what is not there, or has no validation images.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", f"Give {_known()}")
    for each in _FORMATS:
        if each.reads(path):
            return each.read(path)
    raise DataError(f"{path} is no data set that is known here", f"Give {_known()}")


def _known() -> str:
    return ", or ".join(each.title for each in _FORMATS)
