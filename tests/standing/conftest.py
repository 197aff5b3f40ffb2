"""A registered engine with the results of its steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.registry.store import Engine
from tests.registered import register
from tests.standing.common import NAME, leave_results


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that is the newest of all."""
    monkeypatch.chdir(tmp_path)
    engine = register(NAME)
    leave_results(engine)
    return engine
