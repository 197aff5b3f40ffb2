"""The truth where a team has no labels: what the FP32 original itself finds in an image. A metric
against it tells how far a graph agrees with its original, not how good either is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONFIDENCE = 0.25  # from which Ultralytics shows what it finds
_FOUND = "found"  # what the original finds, in a batch


def add_truth(batch: Mapping[str, Any], found: Any, task: str) -> tuple[dict[str, Any], int]:
    """A batch of one image with what the original finds as its truth, and how many objects that
    are. `found` is what Ultralytics' validator makes of the original's outputs.
    """
    if task == "classify":
        return {**batch, "cls": found.argmax(1)}, 1
    [objects] = found
    sure = objects["conf"] >= CONFIDENCE
    kept = {name: values[sure].clone() for name, values in objects.items()}
    return {**batch, _FOUND: kept}, int(sure.sum())


def judge_by_truth(validator: Any) -> None:
    """Let a validator of Ultralytics take this truth in place of labels: both are pixels of the
    graph's input, so nothing is scaled.
    """

    def prepare(index: int, batch: Mapping[str, Any]) -> dict[str, Any]:
        place = {key: batch[key][index] for key in ("ori_shape", "ratio_pad", "im_file")}
        found = batch[_FOUND]
        masks = {"masks": found["masks"].float()} if "masks" in found else {}
        return {**found, **masks, **place, "imgsz": batch["img"].shape[2:]}

    validator._prepare_batch = prepare
