"""The team's registry: engines published by many machines at once, and read by DVC and GTO."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from enginery.cli.main import main
from enginery.system.files import sha256
from tests.conftest import ROOT
from tests.team import MODEL, Machine, Team, clone, git, identity, make_team

Captured = pytest.CaptureFixture[str]
ADA, AMPERE = f"{MODEL}/rtx-ada/fp16", f"{MODEL}/rtx-ampere/int8"


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


def said(capsys: Captured, *arguments: str) -> str:
    """What a command says that ends well."""
    code = main(list(arguments))
    output = capsys.readouterr()
    assert code == 0, output.err
    return output.out


def refused(capsys: Captured, *arguments: str) -> str:
    """The one line of a command that is refused."""
    assert main(list(arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_new_engines_are_published_and_the_work_tree_stays(
    team: Team, machine: Machine, capsys: Captured
) -> None:
    machine.register(ADA)
    machine.register(AMPERE, valid=True)
    (machine.root / "staged.txt").write_text("mine")
    git(machine.root, "add", "staged.txt")
    before = git(machine.root, "status", "--porcelain"), git(machine.root, "show-ref")

    dry = said(capsys, "publish", "--dry-run")
    assert dry.splitlines()[0] == f"would publish {ADA} (candidate)"
    assert dry.splitlines()[-1].startswith("2 new would be published to ")
    assert "engines" not in team.git("branch", "--list")

    lines = said(capsys, "publish").splitlines()
    assert lines[:2] == [f"published {ADA} v1 (candidate)", f"published {AMPERE} v1 (validated)"]
    assert (git(machine.root, "status", "--porcelain"), git(machine.root, "show-ref")) == before
    assert team.tree() == [
        ".dvc/config",
        f"{MODEL}/index.json",
        f"{ADA}/manifest.json",
        f"{ADA}/model.plan.dvc",
        f"{AMPERE}/manifest.json",
        f"{AMPERE}/model.plan.dvc",
        f"{AMPERE}/report.json",
    ]
    assert said(capsys, "publish").startswith("0 new published to ")
    machine.register(ADA, "trained again")
    assert said(capsys, "publish", ADA).startswith(f"published {ADA} v2 (candidate)\n1 new ")
    log = team.git("log", "--format=%an %s", "engines").splitlines()
    assert log == [f"Ada Publish {ADA} v2", "Ada Publish 2 engines"]


def test_dvc_and_gto_read_it(
    team: Team, machine: Machine, tmp_path: Path, capsys: Captured
) -> None:
    digest = machine.register(ADA)
    said(capsys, "publish")
    got = tmp_path / "got.plan"
    line = ["dvc", "get", "--rev", "engines", "--out", str(got)]
    run(*line, str(team.origin), f"{ADA}/model.plan")
    assert digest == sha256(got)
    git(machine.root, "fetch", "--quiet", "--tags")
    assert "v1.0.0" in run("gto", "show", "--repo", str(machine.root), ADA)


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


def command(machine: Machine, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`enginery publish` with another package installed."""
    path = os.pathsep.join([str(ROOT), *([str(site)] if site else [])])
    line = [sys.executable, "-m", "enginery", "publish"]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(line, cwd=machine.root, env=environment, capture_output=True, text=True)


def run(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]]
    if arguments[0] == "dvc":
        command = [sys.executable, "-m", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
