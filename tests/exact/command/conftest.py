"""A checkout of each test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from enginery.pipeline import step as declaring
from enginery.project.paths import WORKPLACE
from enginery.project.stage import Stage
from enginery.system.files import write_json


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A checkout of this test's own; what a step calls, one after another."""
    monkeypatch.chdir(tmp_path)
    called: list[Any] = []

    def noted(name: str) -> Callable[..., None]:
        return lambda *given: called.append((name, *given) if given else name)

    @contextmanager
    def crash_file(path: Path) -> Iterator[None]:
        called.append(("crash file", path))
        yield

    @contextmanager
    def time_limit(*given: Any) -> Iterator[None]:
        called.append(("limit", *given))
        yield

    for name in ("drop_credentials", "interrupt_on_sigterm", "ensure_home", "emit"):
        monkeypatch.setattr(declaring, name, noted(name))
    monkeypatch.setattr(declaring, "crash_file", crash_file)
    monkeypatch.setattr(declaring, "time_limit", time_limit)
    write_json(WORKPLACE, {"time_limit_s": {"build": 77, "export": 78}})
    write_json(Stage("build", "m", "server").recipe, {"parameters": {"a": 1}})
    monkeypatch.setattr(sys, "argv", ["x", "m", "server"])
    monkeypatch.delenv("ENGINERY_REPORT", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return called
