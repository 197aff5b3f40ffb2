"""Data sets laid out as Ultralytics reads them: a data.yaml, folders with these names, or images
alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from enginery.datasets.class_names import parse_names
from enginery.datasets.interface import Dataset
from enginery.errors import DataError
from enginery.vision.folders import SUFFIXES, samples

VALIDATION = ("validation", "images/val", "val", "valid", "images/test", "test")
CALIBRATION = ("calibration", "images/train", "train")
_LAYOUTS = "a data.yaml, or folders named train and val (to classify, with a folder for each class)"


class YoloFormat:
    """See `enginery.datasets.interface.Format`."""

    title = _LAYOUTS

    def reads(self, path: Path) -> bool:
        """A folder or a YAML file."""
        return path.is_dir() or path.suffix in (".yaml", ".yml")

    def read(self, path: Path) -> Dataset:
        """Read a data.yaml, or look at a folder."""
        if not path.is_dir():
            return _from_yaml(path, path.parent)
        if (path / VALIDATION[0]).is_dir():
            return _from_folders(path, path)
        described = data_yaml(path)
        return _from_yaml(described, path) if described else _from_folders(path, None)


def data_yaml(folder: Path) -> Path | None:
    """The data.yaml in a folder."""
    return next(iter(sorted(folder.glob("data.y*ml"))), None)


def has_splits(folder: Path) -> bool:
    """Whether a folder has validation and calibration images apart, by a data.yaml or by names."""
    if data_yaml(folder):
        return True
    named = {
        name.partition("/")[0] for name in (*VALIDATION, *CALIBRATION, "labels", "annotations")
    }
    folders = {path.name for path in folder.glob("*/")}  # of classes, one may be called test
    return folders <= named and _first(folder, VALIDATION) is not None


def _from_folders(folder: Path, own: Path | None) -> Dataset:
    validation = _first(folder, VALIDATION) or folder
    train = _first(folder, CALIBRATION)
    images = tuple(_images(validation))
    if not images:
        raise DataError(f"{folder} holds no validation images", f"Give {_LAYOUTS}")
    return Dataset(images, tuple(_images(train)) if train else (), own)


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _from_yaml(path: Path, folder: Path) -> Dataset:
    content = _load(path)
    base = _base(path, folder, content.get("path"))
    key = next((key for key in ("val", "test") if content.get(key)), None)
    if not key:
        raise DataError(f"{path} names no `val` images", f"Add the key, or give {_LAYOUTS}")
    validation = _listed(path, base, content[key])
    if not validation:
        raise DataError(
            f"{path}: `{key}` holds no images", f"Put {', '.join(SUFFIXES)} files there"
        )
    train = _listed(path, base, content.get("train") or ())
    names = parse_names(content["names"], f"{path}: names") if content.get("names") else ()
    return Dataset(validation, train, names=names)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path} is no YAML: {text}", f"Give {_LAYOUTS}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is no data.yaml of Ultralytics", f"Give {_LAYOUTS}")
    return content


def _base(path: Path, folder: Path, named: object) -> Path:
    """The folder that `path` of a data.yaml names: from the file, or from where we are."""
    if not named:
        return folder
    places = [Path(str(named))] if Path(str(named)).is_absolute() else []
    places = places or [folder / str(named), Path(str(named))]
    for place in places:
        if place.is_dir():
            return place
    tried = " nor ".join(str(place) for place in places)
    raise DataError(f"{path}: `path` {named!r} is no folder: {tried}", "Correct `path` there")


def _listed(path: Path, base: Path, entries: object) -> tuple[Path, ...]:
    """The images that `train` or `val` stands for: folders and lists of files, one or several."""
    names = entries if isinstance(entries, list | tuple) else [entries]
    images = [image for name in names for image in _images(_place(path, base, str(name)))]
    return tuple(dict.fromkeys(images))


def _place(path: Path, base: Path, name: str) -> Path:
    # Exports of labelling services write ../train/images for what lies beside the file.
    for place in (base / name, base / name.removeprefix("../")):
        if place.exists():
            return place
    raise DataError(f"{path} names {name}, and {base / name} is not there", "Correct it there")


def _images(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from samples(Path(root, name) for root, _, names in os.walk(place) for name in names)
        return
    for line in place.read_text(encoding="utf-8").splitlines():
        image = place.parent / line.strip()
        if image.suffix.lower() in SUFFIXES:
            if not image.is_file():
                raise DataError(f"{place} names {line.strip()}: no such image", "Correct the list")
            yield image


FORMAT = YoloFormat()
