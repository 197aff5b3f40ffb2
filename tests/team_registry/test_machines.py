"""Many machines publish at once, and another package brings a registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.team import MODEL, Machine, Team, clone
from tests.team_registry.common import ADA, command, registry


def test_many_machines_publish_at_once_and_nothing_is_lost(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = ("rtx-ada", "rtx-ampere", "rtx-blackwell")
    machines = [clone(team, f"machine-{number}") for number in range(4)]
    for number, machine in enumerate(machines):
        machine.register(f"{MODEL}/{targets[number % 3]}/fp32", f"of machine {number}")
        machine.register(f"{MODEL}/{targets[number % 3]}/int8", "the same everywhere")
    lines = [sys.executable, "-m", "enginery", "publish"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(lines, cwd=machine.root, env=environment, stderr=subprocess.PIPE)
        for machine in machines
    ]
    assert [run.communicate(timeout=120)[1] for run in runs] == [b""] * 4
    monkeypatch.chdir(machines[0].root)
    engines = registry().engines()
    versions = {(engine.target, engine.precision): engine.version for engine in engines}
    assert versions == {
        (target, precision): 2 if (target, precision) == ("rtx-ada", "fp32") else 1
        for target in targets
        for precision in ("fp32", "int8")
    }
    assert len(engines) == 7  # of an engine that two machines have alike, one version
    assert not team.git("rev-list", "--merges", "engines")
    team.git("fsck", "--strict")


TOY = """
import json, shutil
from pathlib import Path

from enginery.errors import RegistryError
from enginery.registries.interface import StageEvent, newest
from enginery.registry.published import PublishedEngine


class Folder:
    def __init__(self, place):
        self.place, self.location = place, f"the toy in {place}"

    def engines(self, models=None):
        files = sorted(self.place.glob("*/engine.json"))
        every = [PublishedEngine.model_validate_json(file.read_text()) for file in files]
        return [engine for engine in every if models is None or engine.model in models]

    def publish(self, publications):
        added = []
        for each in publications:
            before = newest(self.engines()).get(each.contents.name)
            version = before.version + 1 if before else 1
            folder = self.place / f"{str(each.contents.name).replace('/', '-')}-{version}"
            folder.mkdir(parents=True)
            shutil.copyfile(each.plan, folder / "model.plan")
            for name, content in each.files(version).items():
                (folder / name).write_bytes(content)
            added.append(each.published(version, folder.name))
            (folder / "engine.json").write_text(added[-1].model_dump_json())
        return added

    def fetch(self, engine, folder):
        shutil.copytree(self.place / engine.reference, folder, dirs_exist_ok=True)


class Toy:
    def open(self, settings, root):
        if not settings.location:
            raise RegistryError("the toy needs a folder", "Name one: registry.location")
        return Folder(root / settings.location)


BACKEND = Toy()
"""


def test_another_package_brings_a_registry(machine: Machine, tmp_path: Path) -> None:
    machine.register(ADA)
    machine.change(backend="toy")
    without = command(machine)
    assert without.returncode == 1
    assert "registry.backend: 'toy': git is expected" in without.stderr

    site = tmp_path / "site"
    (site / "toy-1.0.dist-info").mkdir(parents=True)
    (site / "toy-1.0.dist-info/METADATA").write_text("Name: toy\nVersion: 1.0\n")
    points = "[enginery.registries]\ntoy = toy_registry:BACKEND\n"
    (site / "toy-1.0.dist-info/entry_points.txt").write_text(points)
    (site / "toy_registry.py").write_text(TOY)
    assert "error: the toy needs a folder. Name one" in command(machine, site).stderr
    machine.change(location="toys")
    for lines in ([f"published {ADA} v1 (candidate)", "1 new"], ["0 new"]):
        ended = command(machine, site)
        assert ended.returncode == 0, ended.stderr
        assert all(map(ended.stdout.__contains__, lines)) and "to the toy in " in ended.stdout
