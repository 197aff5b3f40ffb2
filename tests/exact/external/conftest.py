"""A limit that every graph exceeds."""

from __future__ import annotations

import pytest

from enginery.graphs import external


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph is large that has a byte."""
    monkeypatch.setattr(external, "LARGEST", 0)
