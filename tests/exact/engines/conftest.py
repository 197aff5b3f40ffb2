"""A checkout of each test's own, an engine in it, and the shipped params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

import enginery.actions.sensitivity
import tasks.fingerprint
import tasks.register
import tasks.timing
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.project.paths import model_folder
from enginery.registry.store import Engine
from enginery.system.files import write_json
from tests.conftest import ROOT
from tests.registered import register


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A checkout of this test's own; what the steps say."""
    monkeypatch.chdir(tmp_path)
    said: list[tuple[str, ...]] = []
    for module in (tasks.register, enginery.actions.sensitivity, tasks.timing, tasks.fingerprint):
        monkeypatch.setattr(module, "log", lambda *given: said.append(given))
    return said


@pytest.fixture
def spec() -> Spec:
    return load_spec(ROOT / "params.yaml")


@pytest.fixture
def engine() -> Engine:
    found = register("m/server/fp16")
    write_json(model_folder("m", "export") / "record.json", found.manifest.steps.export.to_json())
    return found
