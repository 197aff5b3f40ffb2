"""A data set that a team has: Ultralytics' data.yaml, or a folder laid out as Ultralytics reads it.

Its `val` images, with their labels, become the project's validation images, and a sample of its
`train` images becomes the calibration images: at most 512, chosen by the digests of their names, so
that the choice is the same everywhere. None of them is a validation image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from enginery.errors import DataError
from enginery.system.files import sha256
from enginery.vision.folders import SUFFIXES

SAMPLE = 512  # calibration images: INT8's ranges hardly change with more
_VALIDATION = ("validation", "images/val", "val", "valid", "images")
_CALIBRATION = ("calibration", "images/train", "train")
_LAYOUTS = "a data.yaml, or folders named train and val (to classify, with a folder for each class)"


@dataclass(frozen=True)
class Dataset:
    """A data set's images; `own` is the folder with validation/ and calibration/ in it, if it is
    laid out as Enginery writes it.
    """

    validation: tuple[Path, ...]
    train: tuple[Path, ...]
    own: Path | None = None


def read_dataset(path: Path) -> Dataset:
    """Read a data.yaml, or look at a folder.

    Raises:
        DataError: it is neither, names what is not there, or has no validation images.
    """
    folder = path if path.is_dir() else path.parent
    yamls = sorted(path.glob("data.y*ml")) if path.is_dir() else [path]
    if path.is_dir() and (path / _VALIDATION[0]).is_dir():
        return _from_folders(path, path)
    if yamls:
        return _from_yaml(yamls[0], folder)
    return _from_folders(path, None)


def _from_folders(folder: Path, own: Path | None) -> Dataset:
    validation = _first(folder, _VALIDATION)
    train = _first(folder, _CALIBRATION)
    images = tuple(_images(validation)) if validation else ()
    if not images:
        raise DataError(f"{folder} holds no validation images", f"Give {_LAYOUTS}")
    return Dataset(images, tuple(_images(train)) if train else (), own)


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _from_yaml(path: Path, folder: Path) -> Dataset:
    content = _load(path)
    base = _base(path, folder, content.get("path"))
    if not content.get("val"):
        raise DataError(f"{path} names no `val` images", f"Add the key, or give {_LAYOUTS}")
    validation = _listed(path, base, content["val"])
    if not validation:
        raise DataError(f"{path}: `val` holds no images", f"Put {', '.join(SUFFIXES)} files there")
    return Dataset(validation, _listed(path, base, content.get("train") or ()))


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder", f"Give {_LAYOUTS}") from None
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
        files = (Path(root, name) for root, _, names in os.walk(place) for name in names)
        yield from sorted(file for file in files if file.suffix.lower() in SUFFIXES)
        return
    for line in place.read_text(encoding="utf-8").splitlines():
        image = place.parent / line.strip()
        if image.suffix.lower() in SUFFIXES:
            if not image.is_file():
                raise DataError(f"{place} names {line.strip()}: no such image", "Correct the list")
            yield image


def sample(dataset: Dataset) -> tuple[Path, ...]:
    """The calibration images: those of `train` that are no validation image, or a part of them."""
    same_size: dict[int, list[Path]] = {}
    for image in dataset.validation:
        same_size.setdefault(image.stat().st_size, []).append(image)
    digests: dict[int, set[str]] = {}
    chosen: list[Path] = []
    for image in sorted(dataset.train, key=_draw):
        if len(chosen) == SAMPLE:
            break
        size = image.stat().st_size
        if size in same_size and size not in digests:
            digests[size] = {sha256(other) for other in same_size[size]}
        if size not in digests or sha256(image) not in digests[size]:
            chosen.append(image)
    return tuple(sorted(chosen))


def _draw(image: Path) -> tuple[str, str]:
    """A number that an image's name gives it, then its path: names repeat, paths do not."""
    name = f"{image.parent.name}/{image.name}"
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest(), str(image)


def copies(images: Sequence[Path], task: str, labelled: bool) -> dict[str, Path]:
    """Where each file of a data set goes in a folder of its own: images/ and labels/, or to
    classify, a folder for each class.
    """
    files: dict[str, Path] = {}
    stems: set[tuple[str, str]] = set()
    for image in images:
        folder = image.parent.name if task == "classify" else "images"
        stem = image.stem
        if (folder, stem) in stems:  # of another folder: both keep a name of their own
            stem = f"{hashlib.sha256(str(image).encode()).hexdigest()[:8]}-{stem}"
        stems.add((folder, stem))
        files[f"{folder}/{stem}{image.suffix}"] = image
        label = label_of(image)
        if labelled and task != "classify" and label.is_file():
            files[f"labels/{stem}.txt"] = label
    return files


def label_of(image: Path) -> Path:
    """An image's label file, as Ultralytics finds it: in labels/ in place of the last images/."""
    parts = list(image.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")
