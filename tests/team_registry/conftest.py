"""A team without engines, and a machine of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.team import Machine, Team, clone, identity, make_team


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """A team without engines."""
    for name, value in identity(tmp_path).items():
        monkeypatch.setenv(name, value)
    return make_team(tmp_path)


@pytest.fixture
def machine(team: Team, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of the team's, in whose folder commands run."""
    machine = clone(team, "machine ü")
    monkeypatch.chdir(machine.root)
    return machine
