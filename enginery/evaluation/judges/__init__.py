"""How the outputs of a task are judged, one module a way behind `interface.Judge`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from enginery.evaluation.judges import classes, labels, own, pixels, tensors
from enginery.evaluation.judges.interface import Judge
from enginery.evaluation.runners import Runner
from enginery.vision.tasks import TaskMetadata


def open_judge(
    folder: Path, head: TaskMetadata, reference: Runner
) -> AbstractContextManager[Judge]:
    """What judges a task's outputs on a data set, with samples as the reference takes them.

    Raises:
        DataError: images, arrays or labels cannot be used.
        ModelError: they are not those of this task with these classes.
    """
    if head.judging.metric:
        return own.open_judge(folder, head, reference)
    if head.task == "tensors":
        return tensors.open_judge(folder, head, reference)
    if head.task == "semantic":
        return pixels.open_judge(folder, head, reference)
    if head.task == "classify" and head.judging.preprocess:
        return classes.open_judge(folder, head, reference)
    return labels.open_judge(folder, head, reference)
