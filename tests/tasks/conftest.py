"""A tiny model of each task and a data set for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.sources.export import export
from enginery.vision.tasks import ULTRALYTICS_TASKS as TASKS
from tests.tasks.common import settings
from tests.tiny import write_data, write_model


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TASK.pt, TASK.onnx and the data set TASK/ of each task."""
    folder = tmp_path_factory.mktemp("tasks ü")
    for task in TASKS:
        write_data(task, write_model(task, folder / f"{task}.pt"), folder / task)
        export(folder / f"{task}.pt", settings(task), folder / f"{task}.onnx")
    return folder
