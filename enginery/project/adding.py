"""A team's model and its data in a project: what is copied there, and what DVC shall keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginery import sources
from enginery.datasets import read_dataset
from enginery.datasets.interface import Dataset
from enginery.datasets.sampling import copies, sample
from enginery.errors import ConfigError, DataError, ModelError
from enginery.project.draft import Draft
from enginery.project.engine_name import NAME
from enginery.project.models import NewModel, guessed_task, model_name
from enginery.vision.folders import SUFFIXES
from enginery.vision.tasks import TASKS

FEW = 300  # images that int8.minimum_images asks for


@dataclass(frozen=True)
class ModelRequest:
    """What a person says of a model."""

    model: Path
    data: Path
    task: str | None = None
    name: str | None = None
    architecture: str | None = None


@dataclass(frozen=True)
class AddedModel:
    """A model that is about to be in a project, and what to tell of it."""

    model: NewModel
    notes: tuple[str, ...]


def add_model(
    draft: Draft,
    root: Path,
    request: ModelRequest,
    int8: bool | None,
    is_tracked: Callable[[str], bool],
) -> AddedModel:
    """Plan what a model needs in the project at `root`; `int8`: asked for, or None: if the data set
    has images for it.

    Raises:
        ModelError, DataError: the model or its data cannot be used.
    """
    name = request.name or model_name(request.model.stem)
    _check_words(name, request.task)
    source = _add_source(draft, root, request.model, name, is_tracked)
    suggestion = sources.find(request.model).suggest(request.model, request.architecture)
    task = request.task or suggestion.task or guessed_task(request.model.stem)
    dataset = read_dataset(request.data)
    takes_images = any(image.suffix.lower() in SUFFIXES for image in dataset.validation)
    if not takes_images and task != "tensors":
        what = f"{request.data} holds arrays, and {task} takes images"
        raise DataError(what, "Give images, or --task tensors")
    calibration = () if int8 is False else sample(dataset)
    if int8 and not calibration:
        why = "no `train` images that are not validation images, too"
        raise DataError(f"{request.data} has {why}", "INT8 needs some; or leave out int8")
    labelled = dataset.has_labels(task)
    own = dataset.own and _inside(root, dataset.own)
    if own:
        folders = _use_in_place(draft, own, bool(calibration), is_tracked)
    else:
        folders = _copy_data(draft, name, task if labelled else "", dataset, calibration)
    names = () if suggestion.has_names else dataset.class_names(task)
    model = NewModel(
        name,
        source,
        task,
        *folders,
        names=_add_names(draft, name, names),
        truth="labels" if labelled else "original",
        takes_images=takes_images,
        suggestion=suggestion,
    )
    return AddedModel(model, tuple(_notes(model, dataset, calibration, int8)))


def _check_words(name: str, task: str | None) -> None:
    mistakes = [] if re.match(NAME, name) else [f"--name {name}: small letters, digits, - and _"]
    mistakes += [] if task in (None, *TASKS) else [f"--task {task}: not one of {', '.join(TASKS)}"]
    if mistakes:
        raise ConfigError("options", mistakes)


def _add_source(
    draft: Draft, root: Path, path: Path, name: str, is_tracked: Callable[[str], bool]
) -> str:
    """The model's file in the project: where it is, or a copy."""
    if path.suffix not in sources.suffixes():
        expected = " or ".join(f"a {suffix}" for suffix in sources.suffixes())
        raise ModelError(f"{path}: {expected} file is expected", "Export it to ONNX first")
    if not path.is_file():
        raise ModelError(f"{path}: no such file", "Correct the model's path")
    inside = _inside(root, path)
    if inside:
        draft.tracked += [] if is_tracked(inside) else [inside]
        return inside
    for file in _files_of(path):
        place = f"data/{name}/{file.relative_to(path.parent).as_posix()}"
        draft.copies[place] = file
        draft.tracked.append(place)
    return f"data/{name}/{path.name}"


def _files_of(path: Path) -> Sequence[Path]:
    """A model's file, and those beside it that belong to it."""
    return [path, *(path.parent / name for name in sources.find(path).data(path))]


def _inside(root: Path, path: Path) -> str | None:
    """A path's name in the project, if it is in it."""
    absolute = path.parent.resolve() / path.name
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else None


def _use_in_place(
    draft: Draft, folder: str, int8: bool, is_tracked: Callable[[str], bool]
) -> tuple[str, str | None]:
    names = [f"{folder}/validation", *([f"{folder}/calibration"] if int8 else [])]
    draft.tracked += [name for name in names if not is_tracked(name)]
    return names[0], names[1] if int8 else None


def _copy_data(
    draft: Draft, name: str, task: str, dataset: Dataset, calibration: Sequence[Path]
) -> tuple[str, str | None]:
    parts = {"validation": dataset.validation, "calibration": calibration}
    folders = {part: f"data/{name}/{part}" for part, images in parts.items() if images}
    for part, folder in folders.items():
        labels = dataset.labels if part == "validation" else None
        files = copies(parts[part], task, labels)
        draft.copies |= {f"{folder}/{file}": source for file, source in files.items()}
        draft.tracked.append(folder)
    return folders["validation"], folders.get("calibration")


def _add_names(draft: Draft, name: str, names: Sequence[str]) -> str | None:
    """A file with the data set's class names."""
    if not names:
        return None
    place = f"data/{name}/names.txt"
    draft.files[place] = "".join(f"{each}\n" for each in names).encode()
    return place


def _notes(
    model: NewModel, dataset: Dataset, calibration: Sequence[Path], int8: bool | None
) -> list[str]:
    counts = f"{len(dataset.validation)} validation images"
    if calibration:
        counts += f", {len(calibration)} calibration images of {len(dataset.train)}"
    notes = [f"{model.name}: {model.source}, {model.task}, {counts}"]
    if model.truth == "original":
        what = "its images have no labels: what the FP32 original finds counts as right"
        notes.append(f"{model.name}: {what}, so metrics say how far engines agree with it")
    if model.names:
        notes.append(f"{model.name}: {model.names} has the names of its classes: correct it if")
        notes[-1] += " the model numbers them otherwise"
    if int8 is None and not calibration:
        notes.append(f"{model.name}: no INT8, since its data set has no `train` images of its own")
    if 0 < len(calibration) < FEW:
        place = f"int8.{model.name}.minimum_images"
        notes.append(
            f"{model.name}: INT8 asks for {FEW} calibration images and has {len(calibration)}: "
            f"add some to {model.calibration}, or set {place} in params.yaml"
        )
    return notes
