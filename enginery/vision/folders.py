"""Where a data set's images and labels lie, and which files are images: known without loading
OpenCV.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
ARRAYS = (".npy", ".npz")


def image_folder(folder: Path) -> Path:
    """Where a data set's images lie: in its images/, or in itself."""
    return folder / "images" if (folder / "images").is_dir() else folder


def samples(files: Iterable[Path]) -> list[Path]:
    """The images among files, sorted; where there is none, the arrays."""
    known = sorted(files)
    images = [path for path in known if path.suffix.lower() in SUFFIXES]
    return images or [path for path in known if path.suffix.lower() in ARRAYS]


def label_file(image: Path) -> Path:
    """Where an image's labels are: in labels/ in place of the last images/ of its path, as
    Ultralytics finds them; in labels/ beside the images; or right beside the image.

    If there are none, where they would be.
    """
    places = list(_label_files(image))
    return next((place for place in places if place.is_file()), places[0])


def mask_file(image: Path) -> Path:
    """Where the class of each of an image's pixels is: a .png in masks/ in place of the last
    images/ of its path, or beside the images.
    """
    folder = _instead_of_images(image.parent, "masks") or image.parent / "masks"
    return folder / f"{image.stem}.png"


def _label_files(image: Path) -> list[Path]:
    beside, instead = image.parent / "labels", _instead_of_images(image.parent, "labels")
    folders = [instead, beside] if instead else [beside]
    places = [folder / f"{image.stem}.txt" for folder in folders]
    return [*places, image.with_suffix(".txt")]


def _instead_of_images(folder: Path, name: str) -> Path | None:
    """A folder with the last images/ of its path exchanged; None if it has none."""
    parts = folder.parts
    if "images" not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], name, *parts[last + 1 :])
