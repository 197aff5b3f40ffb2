"""The demo's images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tasks.demo_data
from enginery.demo import dataset
from enginery.project.stage import Stage
from enginery.system.files import write_json


def test_the_demos_images_are_drawn(here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    def write(folder: Path, seeds: range) -> int:
        drawn.append(seeds)
        (folder / "x").touch()
        return len(seeds) + 1

    step = Stage("demo-data")
    parameters = {"validation_images": 3, "calibration_images": 5}
    write_json(step.recipe, {"parameters": parameters})
    monkeypatch.setattr(dataset, "write_dataset", write)
    tasks.demo_data.demo_data(step)
    assert drawn == [range(1, 4), range(500_001, 500_006)]
    assert here == ["drew 4 validation images", "drew 6 calibration images"]
    files = {path.as_posix() for path in Path("data").rglob("x")}
    assert files == {"data/demo/validation/x", "data/demo/calibration/x"}
