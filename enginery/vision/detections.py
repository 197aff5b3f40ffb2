"""Detections as rows (n, 6): x1, y1, x2, y2 in the input's pixels, confidence, class. Those of an
engine with NMS in it, and the same from raw outputs by Ultralytics' own NMS.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from enginery.sources.ultralytics_compat import import_torchvision
from enginery.vision.nms import Nms
from enginery.vision.score import tensors

Rows = NDArray[np.float32]
_SAME = 0.5  # the overlap of two boxes that are of one object


def engine_rows(outputs: Mapping[str, NDArray[np.float32]]) -> Rows:
    """An engine's four outputs for its images as (images, most, 6); rows that mean nothing are 0.

    The number is that of the engine: what lies beyond it is left from earlier runs.
    """
    scores, classes = outputs["detection_scores"], outputs["detection_classes"]
    columns = [outputs["detection_boxes"], scores[..., None], classes[..., None]]
    rows = np.concatenate([np.asarray(each, np.float32) for each in columns], axis=-1)
    beyond = np.arange(rows.shape[1]) >= np.asarray(outputs["num_detections"])
    rows[beyond] = 0
    return rows


def suppress(raw: NDArray[np.float32], nms: Nms) -> Rows:
    """What Ultralytics' own NMS leaves of a raw output (1, 4 + classes, boxes), as (1, most, 6)."""
    import_torchvision()
    from ultralytics.utils.nms import non_max_suppression

    [found] = non_max_suppression(
        tensors([raw])[0], nms.confidence, nms.iou, max_det=nms.detections
    )
    rows = np.zeros((1, nms.detections, 6), np.float32)
    rows[0, : len(found)] = found.numpy()
    return rows


def pair_rows(reference: Rows, candidate: Rows) -> tuple[Rows, Rows]:
    """The boxes and confidences, (1, pairs, 5), of the detections that both have; and what of the
    candidate's is no number, beside zeros.

    What only one of them has, the task's metric counts.
    """
    kept, other = reference[0][reference[0, :, 4] > 0], candidate[0][candidate[0, :, 4] != 0]
    broken = other[~np.isfinite(other).all(axis=1)]
    matches = _matches(kept, other)
    pairs = [kept[[one for one, _ in matches]], other[[its for _, its in matches]]]
    first = np.concatenate([pairs[0], np.zeros_like(broken)])
    second = np.concatenate([pairs[1], broken])
    return first[None, :, :5], second[None, :, :5]


def _matches(kept: Rows, other: Rows) -> list[tuple[int, int]]:
    """Each detection with the one of its class that overlaps it most; no one twice."""
    overlap = _overlaps(kept, other) * (kept[:, None, 5] == other[None, :, 5])
    matches: list[tuple[int, int]] = []
    for one in range(len(kept)):
        its = int(overlap[one].argmax()) if len(other) else 0
        if len(other) and overlap[one, its] >= _SAME:
            matches.append((one, its))
            overlap[:, its] = 0
    return matches


def _overlaps(first: Rows, second: Rows) -> NDArray[np.float32]:
    """Intersection over union of every two boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:4], second[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(each[:, 2:4] - each[:, :2], 0, None).prod(axis=1) for each in (first, second)]
    whole = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.nan_to_num(shared / np.maximum(whole, 1e-9)), np.float32)
