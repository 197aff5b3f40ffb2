"""A folder to run a step in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder to run a step in."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path
