"""Where a data set's images lie, and which files are images: known without loading OpenCV."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def image_folder(folder: Path) -> Path:
    """Where a data set's images lie: in its images/, or in itself."""
    return folder / "images" if (folder / "images").is_dir() else folder
