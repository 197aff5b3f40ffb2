"""A checkout of each test's own, and an engine in it."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks.demo_data
from enginery.registry.store import Engine
from tests.exact.predict.common import graph
from tests.registered import register


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A checkout of this test's own; what the steps say."""
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(tasks.demo_data, "log", said.append)
    return said


@pytest.fixture
def engine() -> Engine:
    found = register("m/server/fp16")
    graph("images", "b", "a")
    return found
