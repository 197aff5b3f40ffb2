"""What a model's outputs mean: its task, its classes, the shapes of its outputs and the metric it
is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from enginery.errors import ModelError

Task = Literal["detect", "segment", "pose", "obb", "classify"]
TASKS: tuple[Task, ...] = get_args(Task)
Truth = Literal["labels", "original"]  # what counts as right: labels, or what the original finds


@dataclass(frozen=True)
class Metric:
    """The name of a metric in reports and manifests, its title for people, and the name of the one
    shown beside it.
    """

    key: str
    title: str
    secondary: str


MAP, TOP1 = Metric("map50_95", "mAP50-95", "map50"), Metric("top1", "top-1", "top5")


def metric_of(task: str) -> Metric:
    """What a task is judged by: mAP50-95 of boxes, masks, keypoints or oriented boxes; to classify,
    the share of right first guesses.
    """
    return TOP1 if task == "classify" else MAP


def metric_in(measured: Mapping[str, Any]) -> Metric:
    """The metric that a report's or a manifest's metrics hold."""
    return TOP1 if TOP1.key in measured else MAP


@dataclass(frozen=True)
class TaskMetadata:
    """A model's task and classes; of a pose, its keypoints and the values of each: 2 (x, y) or 3
    (x, y, visibility); and what its outputs are compared with.
    """

    task: str
    names: Mapping[int, str]
    kpt_shape: tuple[int, int] | None = None
    truth: Truth = "labels"

    @property
    def has_labels(self) -> bool:
        """Whether its validation images have labels."""
        return self.truth == "labels"

    def end2end(self, shapes: Sequence[Sequence[int]]) -> bool:
        """Whether outputs of these shapes are final detections (1, n, 6 + extra), or raw ones (1, 4
        + classes + extra, anchors).

        Raises:
            ModelError: they are neither.
        """
        if self.task == "classify":
            fits, final = [list(shape[1:]) for shape in shapes] == [[len(self.names)]], False
        else:
            fits, final = self._fits(shapes, 1, 4 + len(self.names)), self._fits(shapes, 2, 6)
        if not (fits or final):
            found = " and ".join(str(tuple(shape)) for shape in shapes)
            what = (
                f"outputs of the shape {found} are not those of a {self.task} model with "
                f"{len(self.names)} classes"
            )
            raise ModelError(
                what, "Correct the model's task in params.yaml, or the `names` in its metadata"
            )
        return not fits

    def _fits(self, shapes: Sequence[Sequence[int]], axis: int, without_extra: int) -> bool:
        """Whether the first output has so many values, and what the task adds to them, along an
        axis.
        """
        ranks = [len(shape) for shape in shapes]
        if ranks != ([3, 4] if self.task == "segment" else [3]):
            return False
        points, values = self.kpt_shape or (0, 0)
        extra = {"segment": shapes[-1][1], "pose": points * values, "obb": 1}.get(self.task, 0)
        return shapes[0][axis] == without_extra + extra
