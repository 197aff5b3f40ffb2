"""Outputs counted against labels by Ultralytics' own validators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.vision.agreement import add_truth, judge_by_truth
from enginery.vision.tasks import Metric, TaskMetadata, metric_of


@dataclass(frozen=True)
class Metrics:
    """The task's metric, 0 to 1, over all images and of each class that labels have; `secondary` is
    mAP50 or top-5.
    """

    metric: Metric
    value: float
    secondary: float
    per_class: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As plain values under the metric's own names: map50_95 and map50, or top1 and top5; and
        per_class.
        """
        return {
            self.metric.key: self.value,
            self.metric.secondary: self.secondary,
            "per_class": dict(self.per_class),
        }


class Score:
    """Adds up one runner's outputs, image by image."""

    def __init__(self, head: TaskMetadata, validator: Any) -> None:
        self._head, self._validator = head, validator
        if not head.has_labels:
            judge_by_truth(validator)

    def add(self, outputs: Sequence[NDArray[np.float32]], batch: dict[str, Any]) -> None:
        """The raw outputs, (1, ...), for a batch of one.

        Raises:
            ModelError: their shapes are not those of the task.
        """
        self._validator.update_metrics(self._found(outputs), batch)

    def with_truth(
        self, outputs: Sequence[NDArray[np.float32]], batch: dict[str, Any]
    ) -> tuple[dict[str, Any], int]:
        """A batch with what the original's outputs say as its truth, and how many objects that
        are.
        """
        return add_truth(batch, self._found(outputs), self._head.task)

    def _found(self, outputs: Sequence[NDArray[np.float32]]) -> Any:
        self._validator.end2end = self._head.end2end([output.shape for output in outputs])
        raw = tensors(outputs)
        return self._validator.postprocess(raw if len(raw) > 1 else raw[0])

    def metrics(self) -> Metrics:
        """The metrics over all images so far."""
        stats = self._validator.get_stats()
        metric = metric_of(self._head.task)
        if self._head.task == "classify":
            value, secondary = stats["metrics/accuracy_top1"], stats["metrics/accuracy_top5"]
            return Metrics(metric, value, secondary, self._right_first_guesses())
        found = self._validator.metrics
        judged = {"segment": "seg", "pose": "pose"}.get(self._head.task, "box")
        values = getattr(found, judged)
        per_class = {
            self._head.names[int(label)]: float(ap)
            for label, ap in zip(values.ap_class_index, values.ap, strict=True)
        }
        return Metrics(metric, float(values.map), float(values.map50), per_class)

    def _right_first_guesses(self) -> dict[str, float]:
        truth = np.concatenate([targets.numpy() for targets in self._validator.targets])
        right = truth == np.concatenate([guesses.numpy()[:, 0] for guesses in self._validator.pred])
        return {
            self._head.names[int(label)]: float(right[truth == label].mean())
            for label in np.unique(truth)
        }


def tensors(outputs: Sequence[NDArray[Any]]) -> list[Any]:
    """Raw outputs as float32 tensors; NaN and infinite values become 0: no detection."""
    import torch

    return [
        torch.from_numpy(
            np.nan_to_num(np.asarray(output, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        )
        for output in outputs
    ]
