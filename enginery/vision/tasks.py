"""What a model's outputs mean: its task, its classes, the shapes of its outputs and the metric it
is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from enginery.errors import ModelError
from enginery.vision.preprocess import Feeding, Preprocess

UltralyticsTask = Literal["detect", "segment", "pose", "obb", "classify"]
Task = Literal[UltralyticsTask, "semantic", "tensors"]
ULTRALYTICS_TASKS: tuple[UltralyticsTask, ...] = get_args(UltralyticsTask)
TASKS: tuple[Task, ...] = (*ULTRALYTICS_TASKS, "semantic", "tensors")
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
MIOU = Metric("miou", "mIoU", "pixel_accuracy")
COSINE = Metric("cosine", "cosine", "cosine_worst")  # of the output that is farthest off
SCORE = Metric("score", "score", "score_worst")  # a team's own
METRICS = (MAP, TOP1, MIOU, COSINE, SCORE)
_OF_TASK = {"classify": TOP1, "semantic": MIOU, "tensors": COSINE}


def metric_of(task: str, own: bool = False) -> Metric:
    """What a task is judged by: mAP50-95 of boxes, masks, keypoints or oriented boxes; to classify,
    the share of right first guesses; a team's own metric, if it has one.
    """
    return SCORE if own else _OF_TASK.get(task, MAP)


def metric_in(measured: Mapping[str, Any]) -> Metric:
    """The metric that a report's or a manifest's metrics hold."""
    return next((metric for metric in METRICS if metric.key in measured), MAP)


@dataclass(frozen=True)
class Judging:
    """How outputs are judged, where that is not Ultralytics' way: without labels, with images
    prepared in another way, given to the input `image`; by a team's own function.
    """

    truth: Truth = "labels"
    preprocess: Preprocess | None = None
    image: str | None = None
    metric: str | None = None
    metric_sha256: str | None = None  # a changed function judges anew


@dataclass(frozen=True)
class TaskMetadata:
    """A model's task and classes; of a pose, its keypoints and the values of each: 2 (x, y) or 3
    (x, y, visibility); and what its outputs are compared with.
    """

    task: str
    names: Mapping[int, str]
    kpt_shape: tuple[int, int] | None = None
    judging: Judging = Judging()

    @property
    def has_labels(self) -> bool:
        """Whether its validation images have labels."""
        return self.judging.truth == "labels"

    @property
    def has_text_labels(self) -> bool:
        """Whether its labels are YOLO's, or folders of classes."""
        own = self.judging.metric is not None
        return self.has_labels and not own and self.task in ULTRALYTICS_TASKS

    @property
    def needs_names(self) -> bool:
        """Whether nothing can be judged without the names of its classes."""
        return self.task != "tensors" and not self.judging.metric

    def feeding(self, size: tuple[int, int]) -> Feeding | None:
        """How samples become its inputs; None: images, as Ultralytics prepares them."""
        own = self.judging
        if self.task in ULTRALYTICS_TASKS and own in (Judging(), Judging(own.truth)):
            return None
        return Feeding(self.task, size, own.preprocess, own.image)

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
