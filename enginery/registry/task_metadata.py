"""What the outputs of a project's model mean, as its export recorded it."""

from __future__ import annotations

from enginery.project.stage import Stage, record_file
from enginery.system.files import read_json
from enginery.vision.tasks import Judging, TaskMetadata


def read_task_metadata(model: str, judging: Judging | None = None) -> TaskMetadata:
    """A model's task, classes and keypoints, and how params.yaml says that it is judged."""
    record = read_json(record_file(Stage("export", model)))
    names = {int(index): name for index, name in record["names"].items()}
    shape = record.get("kpt_shape")
    return TaskMetadata(
        record["task"], names, tuple(shape) if shape else None, judging or Judging()
    )
