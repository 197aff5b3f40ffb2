"""Samples of a validation that people look at: what the original and the graph find in an image.

They are kept beside the validation, so that a report needs neither images nor models.
"""

from __future__ import annotations

from pathlib import Path

from enginery.registry.records import Positive, Record, Share

Point = tuple[Share, Share]  # x and y, as shares of the picture's width and height


class Detection(Record):
    """What is found: without an outline, it is the class of the whole picture. A region of pixels
    of a class has no confidence.
    """

    name: str
    confidence: Share | None = None
    outline: tuple[Point, ...] = ()
    keypoints: tuple[Point, ...] = ()


class Sample(Record):
    """An image as the network sees it, as a small JPEG in base64, with what is found in it."""

    image: str
    width: Positive
    height: Positive
    jpeg: str
    original: tuple[Detection, ...]
    candidate: tuple[Detection, ...]


class SampleFile(Record):
    """samples.json: those first whose outputs differ most."""

    samples: tuple[Sample, ...]


def samples_file(folder: Path) -> Path:
    """Where the samples of a validation are, in the folder of its graph's precision."""
    return folder / "samples.json"
