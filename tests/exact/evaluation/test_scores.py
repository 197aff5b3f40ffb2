"""Scores: each task's metric, by class."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from enginery.vision import score
from enginery.vision import tasks as head
from enginery.vision.tasks import TaskMetadata
from tests.exact.evaluation.common import THREE, Validator


def test_tensors_are_float32_and_finite() -> None:
    given = [np.array([1.5, math.nan, math.inf, -math.inf], np.float16), np.array([2.0])]
    found = score.tensors(given)
    assert [tensor.tolist() for tensor in found] == [[1.5, 0, 0, 0], [2]]
    assert {tensor.dtype for tensor in found} == {torch.float32}


def test_one_output_goes_alone_and_several_as_a_list() -> None:
    validator = Validator()
    counted = score.Score(TaskMetadata("detect", THREE), validator)
    counted.add([np.zeros((1, 7, 84))], {"a": 1})
    counted.add([np.ones((1, 300, 6))], {"a": 2})
    two = score.Score(TaskMetadata("segment", THREE), validator)
    two.add([np.zeros((1, 39, 84)), np.zeros((1, 32, 2, 2))], {"a": 3})
    (first, one, raw), (second, _, final), (third, _, _) = validator.seen
    assert (first[0], first[1].shape, one, raw) == ("post", (1, 7, 84), {"a": 1}, False)
    assert (second[1].shape, final) == ((1, 300, 6), True)
    assert isinstance(third[1], list)
    assert [tensor.shape for tensor in third[1]] == [(1, 39, 84), (1, 32, 2, 2)]


@pytest.mark.parametrize(
    ("task", "part"), [("detect", "box"), ("obb", "box"), ("segment", "seg"), ("pose", "pose")]
)
def test_the_metric_of_a_task_by_class(task: str, part: str) -> None:
    right = SimpleNamespace(
        ap_class_index=np.array([2, 0]),
        ap=np.array([0.5, 0.25]),
        map=np.float64(0.375),
        map50=np.float64(0.7),
    )
    wrong = SimpleNamespace(ap_class_index=np.array([1]), ap=np.array([0.9]), map=0.9, map50=0.9)
    metrics = SimpleNamespace(
        **{name: right if name == part else wrong for name in ("box", "seg", "pose")}
    )
    found = score.Score(TaskMetadata(task, THREE), Validator(metrics=metrics)).metrics()
    assert found == score.Metrics(head.MAP, 0.375, 0.7, {"cat": 0.5, "ant": 0.25})
    assert found.to_dict() == {
        "map50_95": 0.375,
        "map50": 0.7,
        "per_class": {"cat": 0.5, "ant": 0.25},
    }
    assert {type(value) for value in (found.value, found.secondary, *found.per_class.values())} == {
        float
    }


def test_the_share_of_right_first_guesses_of_each_class() -> None:
    """Two images of the ant, one right; three of the cat, all right; guesses of several batches."""
    targets = [torch.tensor([0]), torch.tensor([2, 2]), torch.tensor([0, 2])]
    pred = [
        torch.tensor([[0, 1, 2]]),
        torch.tensor([[2, 0, 1], [2, 1, 0]]),
        torch.tensor([[1, 0, 2], [2, 0, 1]]),
    ]
    found = score.Score(
        TaskMetadata("classify", THREE), Validator(targets=targets, pred=pred)
    ).metrics()
    assert found == score.Metrics(head.TOP1, 0.25, 0.75, {"ant": 0.5, "cat": 1.0})
    assert found.to_dict() == {"top1": 0.25, "top5": 0.75, "per_class": {"ant": 0.5, "cat": 1.0}}
    assert {type(value) for value in found.per_class.values()} == {float}
