"""Two graphs on the same images, in the same order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from enginery.errors import ModelError
from enginery.evaluation import validation
from enginery.evaluation.compare import OutputError
from enginery.evaluation.judges.labels import LabelJudge
from enginery.vision import score
from enginery.vision import tasks as head
from enginery.vision.tasks import TaskMetadata
from tests.exact.evaluation.common import THREE, Validator


class Images:
    """Four images that count themselves, with the batches that belong to them."""

    def __init__(self) -> None:
        self.validators: list[Validator] = []

    def __len__(self) -> int:
        return 4

    def name(self, index: int) -> Path:
        return Path(f"{index}.png")

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], dict[str, Any]]]:
        for number in range(4):
            yield np.full((3, 2, 2), number, np.float32), {"number": number}

    def validator(self) -> Validator:
        empty = SimpleNamespace(
            ap_class_index=np.array([0]), ap=np.array([0.5]), map=0.5, map50=0.75
        )
        self.validators.append(Validator(metrics=SimpleNamespace(box=empty)))
        return self.validators[-1]


class Plus:
    """A runner whose output is the image's number plus a constant, in the shape of a detector's."""

    def __init__(self, more: float, begun: list[int], size: tuple[int, int] = (2, 2)) -> None:
        self.more, self.begun, self.size = more, begun, size

    def begin(self, image: NDArray[np.float32], pool: ThreadPoolExecutor) -> Any:
        self.begun.append(int(image[0, 0, 0]))
        return lambda: [np.full((1, 7, 1), image[0, 0, 0] + self.more, np.float32)]


def test_both_see_every_image_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, asked = Images(), list[Any]()

    def open_judge(folder: Path, head: TaskMetadata, reference: Any) -> Any:
        asked.extend([folder, head, reference])
        return nullcontext(LabelJudge(folder, head, opened))  # type: ignore[arg-type]

    monkeypatch.setattr(validation, "open_judge", open_judge)
    monkeypatch.setattr(validation, "WORKERS", 2)
    begun: list[int] = []
    said: list[tuple[int, int]] = []
    head_ = TaskMetadata("detect", THREE)
    first, second = Plus(1, begun, (6, 8)), Plus(1.5, begun)
    found = validation.compare(
        first, second, Path("folder"), head_, lambda *done: said.append(done)
    )
    assert asked == [Path("folder"), head_, first]
    assert begun == [0, 0, 1, 1, 2, 2, 3, 3]
    assert said == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [
        [batch["number"] for _, batch, _ in validator.seen] for validator in opened.validators
    ] == [[0, 1, 2, 3]] * 2
    values = [
        [float(found[1].max()) for found, _, _ in validator.seen] for validator in opened.validators
    ]
    assert values == [[1, 2, 3, 4], [1.5, 2.5, 3.5, 4.5]]
    assert found.closeness == OutputError(0.5, math.sqrt(4 * 0.25 / (1 + 4 + 9 + 16)), 0, 0)
    metrics = score.Metrics(head.MAP, 0.5, 0.75, {"ant": 0.5})
    assert (found.reference, found.candidate) == (metrics, metrics)
    plain = {"map50_95": 0.5, "map50": 0.75, "per_class": {"ant": 0.5}}
    closeness = {"max_abs": 0.5, "rms_relative": math.sqrt(1 / 30), "nan_count": 0, "inf_count": 0}
    assert found.to_dict() == {"closeness": closeness, "reference": plain, "candidate": plain}


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_so_many_are_drawn_ahead(count: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number

    given = validation._ahead(items(), count)
    for number in range(5):
        assert next(given) == number
        assert len(drawn) == min(number + count + 1, 5)
    assert list(given) == []


def test_graphs_are_compared_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(validation, "GraphRunner", lambda *given: given)
    monkeypatch.setattr(validation, "compare", lambda *given: asked.append(given))
    one, two, named = Path("one"), Path("two"), TaskMetadata("detect", THREE)
    validation.validate_graph(one, two, tmp_path, named, print)
    validation.validate_graph(one, two, tmp_path, named, print, (32, 64))
    assert asked == [
        ((one, (640, 640), None), (two, (640, 640), None), tmp_path, named, print, 0),
        ((one, (32, 64), None), (two, (32, 64), None), tmp_path, named, print, 0),
    ]
    with pytest.raises(ModelError) as error:
        validation.validate_graph(one, two, tmp_path, TaskMetadata("detect", {}), print)
    assert (
        str(error.value)
        == "one has no class names in its metadata. Give a file with them as `names` of the model in params.yaml"
    )
