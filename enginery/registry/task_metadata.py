"""What the outputs of a project's model mean, as its export recorded it."""

from __future__ import annotations

from enginery.project.stage import Stage, record_file
from enginery.system.files import read_json
from enginery.vision.tasks import Head


def model_head(model: str) -> Head:
    """A model's task, classes and keypoints."""
    record = read_json(record_file(Stage("export", model)))
    names = {int(index): name for index, name in record["names"].items()}
    shape = record.get("kpt_shape")
    return Head(record["task"], names, tuple(shape) if shape else None)
