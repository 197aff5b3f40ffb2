"""What a project takes of a data set: a sample of its `train` images, and the files to copy.

At most 512 calibration images are taken, chosen by the digests of their names, so that the choice
is the same everywhere. None of them is a validation image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from enginery.datasets.interface import Dataset, Label, Labels
from enginery.system.files import sha256
from enginery.vision.folders import mask_file

SAMPLE = 512  # calibration images: INT8's ranges hardly change with more


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


def copies(
    images: Sequence[Path], task: str, labels: Labels | None = None
) -> dict[str, Path | bytes]:
    """Each file of a data set in a folder of its own, by its place there: images/ and, where
    `labels` are given, labels/ or masks/; to classify, a folder for each class.
    """
    files: dict[str, Path | bytes] = {}
    stems: set[tuple[str, str]] = set()
    for image in images:
        folder = image.parent.name if task == "classify" else "images"
        stem = image.stem
        if (folder, stem) in stems:  # of another folder: both keep a name of their own
            stem = f"{hashlib.sha256(str(image).encode()).hexdigest()[:8]}-{stem}"
        stems.add((folder, stem))
        files[f"{folder}/{stem}{image.suffix}"] = image
        files |= {
            place: file for place, file in _beside(image, stem, task, labels) if file is not None
        }
    return files


def _beside(
    image: Path, stem: str, task: str, labels: Labels | None
) -> Iterator[tuple[str, Label]]:
    """What belongs to an image, by its place: labels, a mask, or the inputs that are no image."""
    if task == "tensors":
        arrays = image.with_suffix(".npz")
        yield f"images/{stem}.npz", arrays if arrays != image and arrays.is_file() else None
    elif task == "semantic":
        mask = mask_file(image)
        yield f"masks/{stem}.png", mask if labels and mask.is_file() else None
    elif labels and task != "classify":
        yield f"labels/{stem}.txt", labels.of(image, task)
