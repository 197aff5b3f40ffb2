"""COCO's JSON: a file for each split, the images in folders beside it.

Categories become classes 0, 1, 2 ... in the order of their ids. One that is only the group of the
others, as labelling services write it, is left out if no object has it. Crowds are left out, too,
as Ultralytics does when it converts such files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from enginery.datasets.interface import Dataset, Label
from enginery.errors import DataError

_CURE = "Export the data set again"
_TRAIN, _VALIDATION = ("train",), ("val", "test")
_SHOWN = 3


class _Image(BaseModel):
    id: int
    file_name: str
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    segmentation: Any = None
    keypoints: tuple[float, ...] = ()
    iscrowd: int = 0


class _Category(BaseModel):
    id: int
    name: str
    supercategory: str | None = None


class _Content(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class CocoFormat:
    """See `enginery.datasets.interface.Format`."""

    title = "COCO's JSON"

    def reads(self, path: Path) -> bool:
        """A .json, or a folder that holds some and no data.yaml."""
        if path.is_dir():
            return not list(path.glob("data.y*ml")) and bool(files_in(path))
        return path.suffix == ".json"

    def read(self, path: Path) -> Dataset:
        """The annotations of `val` are the validation's, those of `train` the calibration's."""
        files = files_in(path) if path.is_dir() else [path, *_siblings(path)]
        train = [file for file in files if _is_named(file, _TRAIN) and file != path]
        rest = [file for file in files if file not in train]
        named = [file for file in rest if file == path or _is_named(file, _VALIDATION)]
        chosen = path if path in rest else next(iter(named or rest), None)
        if chosen is None:
            raise DataError(f"{path} has annotations of `train` alone", "Give those of `val`, too")
        split = _read(chosen)
        images = tuple(sorted(split.objects))
        calibration = tuple(sorted(_read(train[0]).objects)) if train else ()
        return Dataset(images, calibration, names=split.names, labels=split)


@dataclass(frozen=True)
class Object:
    """What an annotation says of one object; pixels are of an image (width, height)."""

    label: int
    annotation: _Annotation
    size: tuple[int, int]


@dataclass(frozen=True)
class _Split:
    """The objects of every image; the labels that they are."""

    objects: Mapping[Path, Sequence[Object]]
    names: tuple[str, ...]
    file: Path

    def of(self, image: Path, task: str) -> Label:
        """See `enginery.datasets.interface.Labels`."""
        lines = [line for each in self.objects[image] if (line := self._line(each, task))]
        return "".join(f"{line}\n" for line in lines).encode()

    def _line(self, described: Object, task: str) -> str:
        points = list(_points(described, task))
        if not points:
            what = f"{self.file} has an object of {self.names[described.label]!r} in image"
            raise DataError(
                f"{what} {described.annotation.image_id} without {_NEEDS[task]}",
                f"Add it, or choose another task than {task}",
            )
        return " ".join([str(described.label), *(f"{value:.6g}" for value in points)])


_NEEDS = {
    "detect": "a bbox",
    "segment": "polygons (an RLE mask is none)",
    "pose": "a bbox and keypoints",
    "obb": "a polygon of four corners",
}


def _points(described: Object, task: str) -> Iterator[float]:
    """A label's numbers after its class, as shares of the image."""
    annotation, (width, height) = described.annotation, described.size
    if task in ("segment", "obb"):
        yield from _shares(_outline(annotation, corners=task == "obb"), width, height)
        return
    if annotation.bbox is None or (task == "pose" and not annotation.keypoints):
        return
    left, top, wide, high = annotation.bbox
    low = max(left, 0.0), max(top, 0.0)
    right, bottom = min(left + wide, width), min(top + high, height)
    yield from ((low[0] + right) / 2 / width, (low[1] + bottom) / 2 / height)
    yield from (max(right - low[0], 0.0) / width, max(bottom - low[1], 0.0) / height)
    if task == "pose":
        x, y, seen = (annotation.keypoints[start::3] for start in range(3))
        for place in zip(x, y, seen, strict=True):
            yield from (place[0] / width, place[1] / height, place[2])


def _outline(annotation: _Annotation, corners: bool) -> list[float]:
    """An object's polygon; several become one, joined as Ultralytics joins them."""
    parts = annotation.segmentation if isinstance(annotation.segmentation, list) else []
    if corners:
        return parts[0] if len(parts) == 1 and len(parts[0]) == 8 else []
    if len(parts) < 2:
        return parts[0] if parts else []
    from enginery.sources.ultralytics_compat import silence

    with silence():
        from ultralytics.data.converter import merge_multi_segment

        joined = merge_multi_segment(parts)
    return [float(value) for part in joined for point in part for value in point]


def _shares(values: Sequence[float], width: int, height: int) -> Iterator[float]:
    for index, value in enumerate(values):
        yield min(max(value / (height if index % 2 else width), 0.0), 1.0)


def files_in(folder: Path) -> list[Path]:
    """The annotation files of a data set's folder: in it, in annotations/, or one in each split."""
    places = (*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*/*.json"))
    return sorted({file for file in places if _is_coco(file)})


def _siblings(path: Path) -> list[Path]:
    """The files of the other splits: beside it, or in the folder of another split."""
    beside = [path.parent, *([path.parent.parent] if path.name.startswith("_") else [])]
    return [file for folder in beside for file in files_in(folder) if file != path]


def _is_coco(file: Path) -> bool:
    with file.open("rb") as opened:  # a file may have gigabytes
        start = opened.read(1 << 16)
    named = file.stem.startswith(("instances_", "person_keypoints_", "_annotations"))
    return named or any(b'"%s"' % key in start for key in (b"images", b"categories"))


def _is_named(file: Path, words: Iterable[str]) -> bool:
    names = f"{file.parent.name} {file.stem}" if file.stem.startswith("_") else file.stem
    return any(word in names.lower() for word in words)


def _read(file: Path) -> _Split:
    content = _parse(file)
    indexes = _indexes(content)
    places = _places(file, content.images)
    objects: dict[Path, list[Object]] = {place: [] for place in places.values()}
    sizes = {image.id: (image.width, image.height) for image in content.images}
    for each in content.annotations:
        if each.image_id not in places or each.category_id not in indexes:
            kind = "image" if each.image_id not in places else "category"
            number = each.image_id if kind == "image" else each.category_id
            raise DataError(f"{file}: an annotation is of {kind} {number}, which is missing", _CURE)
        if not each.iscrowd:
            label = indexes[each.category_id]
            objects[places[each.image_id]].append(Object(label, each, sizes[each.image_id]))
    if not objects:
        raise DataError(f"{file} has no images", _CURE)
    names = {category.id: category.name for category in content.categories}
    return _Split(objects, tuple(names[category] for category in indexes), file)


def _parse(file: Path) -> _Content:
    try:
        return TypeAdapter(_Content).validate_python(json.loads(file.read_bytes()))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}", "Correct the path") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise DataError(f"{file} is no JSON of COCO: {where}: {first['msg']}", _CURE) from None
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}", "Copy it again") from None


def _indexes(content: _Content) -> dict[int, int]:
    """The class of each category."""
    used = {each.category_id for each in content.annotations}
    groups = {each.supercategory for each in content.categories if each.supercategory != each.name}
    kept = [each.id for each in content.categories if each.id in used or each.name not in groups]
    return {category: index for index, category in enumerate(sorted(kept))}


def _places(file: Path, images: Sequence[_Image]) -> dict[int, Path]:
    """Where each image lies: beside the file, or in a folder that is named after the split."""
    folders = _folders(file)
    places = {
        image.id: next(
            (
                folder / image.file_name
                for folder in folders
                if (folder / image.file_name).is_file()
            ),
            None,
        )
        for image in images
    }
    missing = [image.file_name for image in images if places[image.id] is None]
    if missing:
        names = ", ".join(missing[:_SHOWN])
        what = f"{file} names {len(missing)} images that are not there: {names}"
        looked = ", ".join(map(str, folders))
        raise DataError(f"{what} (looked in {looked})", "Put them there, or take them out of it")
    return {number: place for number, place in places.items() if place}


def _folders(file: Path) -> list[Path]:
    """Where images may lie: beside the file, and in images/, SPLIT/ and images/SPLIT/ of the data
    set.
    """
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    split = file.stem.rpartition("_")[2]
    places = (file.parent, root, root / "images", root / split, root / "images" / split)
    return [place for place in dict.fromkeys(places) if place.is_dir()]


FORMAT = CocoFormat()
