"""Heads: which outputs each task has, and what it is judged by."""

from __future__ import annotations

import pytest

from enginery.errors import ModelError
from enginery.vision import tasks as head
from enginery.vision.tasks import TaskMetadata
from tests.exact.evaluation.common import THREE


@pytest.mark.parametrize(
    ("task", "shapes", "final"),
    [
        ("detect", [(1, 7, 84)], False),
        ("detect", [(1, 300, 6)], True),
        ("detect", [(1, 7, 6)], False),
        ("segment", [(1, 39, 84), (1, 32, 24, 24)], False),
        ("segment", [(1, 300, 38), (1, 32, 24, 24)], True),
        ("segment", [(1, 12, 84), (1, 5, 24, 24)], False),
        ("pose", [(1, 22, 84)], False),
        ("pose", [(1, 300, 21)], True),
        ("obb", [(1, 8, 84)], False),
        ("obb", [(1, 300, 7)], True),
        ("classify", [(1, 3)], False),
        ("classify", [(4, 3)], False),
    ],
)
def test_final_and_raw_outputs(task: str, shapes: list[tuple[int, ...]], final: bool) -> None:
    assert TaskMetadata(task, THREE, (5, 3) if task == "pose" else None).end2end(shapes) is final


@pytest.mark.parametrize(
    ("task", "shapes", "found"),
    [
        ("detect", [(1, 8, 84)], "(1, 8, 84)"),
        ("detect", [(1, 84, 7)], "(1, 84, 7)"),
        ("detect", [(1, 7)], "(1, 7)"),
        ("detect", [(1, 7, 84), (1, 32, 24, 24)], "(1, 7, 84) and (1, 32, 24, 24)"),
        ("segment", [(1, 39, 84)], "(1, 39, 84)"),
        ("segment", [(1, 38, 84), (1, 32, 24, 24)], "(1, 38, 84) and (1, 32, 24, 24)"),
        ("pose", [(1, 21, 84)], "(1, 21, 84)"),
        ("obb", [(1, 7, 84)], "(1, 7, 84)"),
        ("classify", [(1, 4)], "(1, 4)"),
        ("classify", [(1, 3), (1, 3)], "(1, 3) and (1, 3)"),
        ("classify", [(1, 3, 1)], "(1, 3, 1)"),
    ],
)
def test_outputs_of_no_task(task: str, shapes: list[tuple[int, ...]], found: str) -> None:
    with pytest.raises(ModelError) as error:
        TaskMetadata(task, THREE, (5, 3) if task == "pose" else None).end2end(shapes)
    assert str(error.value) == (
        f"outputs of the shape {found} are not those of a {task} model with 3 classes. "
        "Correct the model's task in params.yaml, or the `names` in its metadata"
    )


def test_what_each_task_is_judged_by() -> None:
    assert [head.metric_of(task).key for task in head.ULTRALYTICS_TASKS] == [
        "map50_95",
        "map50_95",
        "map50_95",
        "map50_95",
        "top1",
    ]
    assert head.metric_in({"top1": 0.5}) is head.TOP1
    assert head.metric_in({"map50_95": 0.5}) is head.MAP
