"""Write scenes as a YOLO data set: images/NNNNNN.jpg, labels/NNNNNN.txt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from enginery.demo.scenes import scene


def write_dataset(folder: Path, seeds: Iterable[int], size: int = 640) -> int:
    """Draw one scene per seed below `folder`; returns how many were written."""
    images, labels = folder / "images", folder / "labels"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    written = 0
    for seed in seeds:
        image, boxes = scene(seed, size)
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        encoded.tofile(
            images / f"{seed:06d}.jpg"
        )  # raises where cv2.imwrite would only return False
        (labels / f"{seed:06d}.txt").write_text(
            "".join(f"{box.yolo_line(size)}\n" for box in boxes), encoding="utf-8"
        )
        written += 1
    return written
