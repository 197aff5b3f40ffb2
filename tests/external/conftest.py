"""The demo's graph as one file, and as a large one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from enginery.graphs import external
from enginery.sources.export import ExportSettings, export
from tests.external.common import LIMIT


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's graph in one file."""
    path = tmp_path_factory.mktemp("whole") / "model.onnx"
    weights = Path(__file__).resolve().parents[2] / "data/demo/yolov8n-shapes.pt"
    export(weights, ExportSettings("detect", (64, 96), 1, False, 17), path)
    return path


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether graphs above a few kilobytes are large from now on."""

    def switch(on: bool) -> None:
        monkeypatch.setattr(external, "LARGEST", LIMIT if on else 1_900_000_000)

    switch(True)
    return switch
