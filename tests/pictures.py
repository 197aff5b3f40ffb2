"""Samples of a validation as a report reads them, without a validation."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from enginery.evaluation.samples import Detection, Sample, SampleFile, samples_file
from enginery.project.paths import model_folder
from enginery.system.files import write_json

BOX = ((0.1, 0.2), (0.4, 0.2), (0.4, 0.6), (0.1, 0.6))


def detection(name: str = "disc", confidence: float = 0.91) -> Detection:
    return Detection(name=name, confidence=confidence, outline=BOX)


def sample(image: str, *found: Detection, colour: tuple[int, int, int] | None = None) -> Sample:
    """A picture of one colour (BGR), else of noise, in which the graph finds less."""
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    picture = noise if colour is None else np.full((240, 320, 3), colour, np.uint8)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 50])[1].tobytes()
    return Sample(
        image=image,
        width=320,
        height=240,
        jpeg=base64.b64encode(data).decode(),
        original=found,
        candidate=found[1:],
    )


def keep_samples(model: str, precision: str, *samples: Sample) -> None:
    """Write them where the report looks for them."""
    write_json(samples_file(model_folder(model, precision)), SampleFile(samples=samples).to_json())
