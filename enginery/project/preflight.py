"""What can be known of a run's inputs before anything runs, all of it at once."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

from enginery.project.params import Spec
from enginery.vision.folders import SUFFIXES, image_folder


def doubts(spec: Spec, tracked: Collection[Path]) -> Iterator[str]:
    """Inputs that are missing or too few, and those that other machines cannot have.

    `tracked` is what DVC keeps: what a stage makes, and what was added by hand.
    """
    inputs = dict(_inputs(spec))
    own = {key: path for key, path in inputs.items() if not _is_below(path, tracked)}
    for key, path in own.items():
        if not path.exists():
            yield f"{key}: {path} is not there, and no stage of dvc.yaml makes it"
    yield from _too_few(spec, own)
    there = {path: key for key, path in own.items() if path.exists()}
    for path in _untracked(list(there)):
        yield (
            f"{there[path]}: neither DVC nor git tracks {path}: other machines cannot build with "
            f"it. Add it: dvc add {path}"
        )


def _inputs(spec: Spec) -> Iterator[tuple[str, Path]]:
    for name, model in spec.models.items():
        yield f"models.{name}.source", Path(model.source)
        yield f"models.{name}.validation", Path(model.validation)
        if model.names:
            yield f"models.{name}.names", Path(model.names)
        if model.metric:
            yield f"models.{name}.metric", Path(model.metric.partition(":")[0])
    for name, settings in spec.int8.items():
        yield f"int8.{name}.calibration", Path(settings.calibration)


def _is_below(path: Path, tracked: Collection[Path]) -> bool:
    return any(each in tracked for each in (path, *path.parents))


def _too_few(spec: Spec, inputs: Collection[str]) -> Iterator[str]:
    for name, settings in spec.int8.items():
        key, folder = f"int8.{name}.calibration", Path(settings.calibration)
        if key not in inputs or not folder.is_dir():
            continue
        images = image_folder(folder).rglob("*")
        count = sum(path.suffix.lower() in SUFFIXES for path in images)
        if count < settings.minimum_images:
            asked = f"minimum_images asks for {settings.minimum_images}"
            yield f"{key}: {folder} holds {count} images, and {asked}"


def _untracked(paths: list[Path]) -> list[Path]:
    """Those that git does not have; none where there is no git, or nothing was committed yet."""
    if not paths:
        return []
    command = ["git", "ls-tree", "-r", "--name-only", "HEAD", "--", *map(str, paths)]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    if listed.returncode:
        return []
    committed = {Path(line) for line in listed.stdout.splitlines()}
    return [path for path in paths if not _holds(path, committed)]


def _holds(path: Path, committed: Collection[Path]) -> bool:
    return any(path in (each, *each.parents) for each in committed)
