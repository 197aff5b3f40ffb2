"""A registered engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.registry.store import Engine
from tests.registered import register


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.chdir(tmp_path)
    return register("m/server/fp16")
