"""Raw outputs as objects that a report draws: boxes, masks, keypoints, oriented boxes, regions of
a class, or the class of the whole image.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enginery.evaluation.compare import Outputs
from enginery.evaluation.judges.pixels import classes_of
from enginery.evaluation.samples import Detection, Point, Sample
from enginery.vision.agreement import CONFIDENCE
from enginery.vision.folders import ARRAYS
from enginery.vision.images import fit, read_image
from enginery.vision.results import to_results
from enginery.vision.tasks import ULTRALYTICS_TASKS, TaskMetadata

_SIDE, _QUALITY = 320, 80  # pixels of a picture's longer side; of JPEG
_OVERLAP = 0.7  # from which NMS takes two boxes for one, as Ultralytics does by itself
_MOST = 60  # objects in a picture: more hide it
_SMALLEST, _ROUGHNESS = 0.001, 0.004  # a region, as a share of the picture; of its outline


def can_draw(head: TaskMetadata) -> bool:
    """Whether a task's outputs are known to be something that can be drawn."""
    return not head.judging.metric and head.task in (*ULTRALYTICS_TASKS, "semantic")


def draw_sample(
    head: TaskMetadata, image: Path, size: tuple[int, int], original: Outputs, candidate: Outputs
) -> Sample | None:
    """An image with what both find in it, as the network sees it: fitted into `size` (height,
    width). None where the sample is no image, or holds arrays.
    """
    if image.suffix.lower() in ARRAYS:
        return None
    picture = fit(read_image(image), *size, head.task, head.judging.preprocess)
    small = _shrink(picture)
    return Sample(
        image=image.name,
        width=small.shape[1],
        height=small.shape[0],
        jpeg=_jpeg(small),
        original=tuple(_detections(head, original, picture)),
        candidate=tuple(_detections(head, candidate, picture)),
    )


def _detections(
    head: TaskMetadata, outputs: Outputs, picture: NDArray[np.uint8]
) -> list[Detection]:
    kind = {"classify": _first_guess, "semantic": _regions}.get(head.task, _objects)
    found = sorted(kind(head, outputs, picture), key=lambda each: -(each.confidence or 0.0))
    return found[:_MOST]


def _first_guess(
    head: TaskMetadata, outputs: Outputs, picture: NDArray[np.uint8]
) -> Iterator[Detection]:
    scores = np.nan_to_num(np.asarray(outputs[0][0], np.float64))
    if scores.min() < 0 or abs(scores.sum() - 1) > 0.01:  # not yet shares
        exponents = np.exp(scores - scores.max())
        scores = exponents / exponents.sum()
    best = int(np.argmax(scores))
    yield Detection(name=head.names[best], confidence=_share(scores[best]))


def _regions(
    head: TaskMetadata, outputs: Outputs, picture: NDArray[np.uint8]
) -> Iterator[Detection]:
    """Each class's regions, the largest first."""
    rows, columns = picture.shape[:2]
    classes, regions = classes_of(outputs, head, (rows, columns)), []
    for index in np.unique(classes).tolist():
        mask = (classes == index).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        regions += [(cv2.contourArea(contour), index, contour) for contour in contours]
    for area, index, contour in sorted(regions, key=lambda region: -region[0]):
        if area >= _SMALLEST * rows * columns:
            outline = _outline(contour[:, 0] / np.array([columns, rows]))
            yield Detection(name=head.names[index], outline=outline)


def _objects(
    head: TaskMetadata, outputs: Outputs, picture: NDArray[np.uint8]
) -> Iterator[Detection]:
    batch = np.zeros((1, 3, *picture.shape[:2]), np.float32)  # only its shape counts
    finite = [np.asarray(output, np.float32) for output in outputs]
    [result] = to_results(head, finite, batch, [picture], [Path("x.png")], CONFIDENCE, _OVERLAP)
    objects = result.obb if head.task == "obb" else result.boxes
    outlines = _outlines(result, head.task)
    keypoints = result.keypoints.xyn.tolist() if head.task == "pose" and len(objects) else []
    for row, (label, confidence) in enumerate(zip(objects.cls, objects.conf, strict=True)):
        yield Detection(
            name=head.names[int(label)],
            confidence=_share(confidence),
            outline=_outline(np.asarray(outlines[row])),
            keypoints=_points(keypoints[row]) if keypoints else (),
        )


def _outlines(result: Any, task: str) -> Any:
    """Each object's corners as shares of the picture."""
    if task == "obb":
        return result.obb.xyxyxyxyn.numpy()
    if task == "segment" and result.masks is not None:
        return result.masks.xyn
    boxes = result.boxes.xyxyn.numpy()
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def _outline(corners: NDArray[Any]) -> tuple[Point, ...]:
    if len(corners) > 4:  # a mask's: a few corners look the same
        corners = cv2.approxPolyDP(corners.astype(np.float32)[:, None], _ROUGHNESS, True)[:, 0]
    return _points(corners.tolist())


def _points(values: Any) -> tuple[Point, ...]:
    return tuple((_share(x), _share(y)) for x, y, *_ in values)


def _share(value: Any) -> float:
    return round(min(max(float(value), 0.0), 1.0), 4)


def _shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = picture.shape[:2]
    scale = min(1.0, _SIDE / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return base64.b64encode(data.tobytes()).decode("ascii")
