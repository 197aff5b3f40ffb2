"""Where a data set's images and labels lie, and which files are images: known without loading
OpenCV.
"""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def image_folder(folder: Path) -> Path:
    """Where a data set's images lie: in its images/, or in itself."""
    return folder / "images" if (folder / "images").is_dir() else folder


def label_file(image: Path) -> Path:
    """Where an image's labels are: in labels/ in place of the last images/ of its path, as
    Ultralytics finds them; in labels/ beside the images; or right beside the image.

    If there are none, where they would be.
    """
    places = list(_label_files(image))
    return next((place for place in places if place.is_file()), places[0])


def _label_files(image: Path) -> list[Path]:
    name, parts = f"{image.stem}.txt", image.parent.parts
    if "images" not in parts:
        return [image.parent / "labels" / name, image.with_suffix(".txt")]
    last = len(parts) - 1 - parts[::-1].index("images")
    instead = Path(*parts[:last], "labels", *parts[last + 1 :])
    return [instead / name, image.parent / "labels" / name, image.with_suffix(".txt")]
