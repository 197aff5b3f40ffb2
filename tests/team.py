"""A team: a bare git repository as its origin, a folder as its DVC remote, and machines with clones
of their own, which have engines without having built them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.registered import enter, records, report
from tests.test_spec import ROOT

MODEL = "yolov8n-shapes"
CARD = {"compute_capability": "9.0", "gpu": "Card"}


@dataclass(frozen=True)
class Team:
    """What the machines share."""

    folder: Path

    @property
    def origin(self) -> Path:
        return self.folder / "origin ü.git"

    @property
    def remote(self) -> Path:
        return self.folder / "remote"

    def git(self, *arguments: str) -> str:
        return git(self.origin, *arguments)

    def tree(self) -> list[str]:
        """Every file of the registry."""
        return self.git("ls-tree", "-r", "--name-only", "-z", "engines").split("\0")[:-1]


@dataclass(frozen=True)
class Machine:
    """A clone of the team's project."""

    root: Path

    def register(self, name: str, content: str = "", valid: bool = False, **built: Any) -> str:
        """Have an engine, whose plan has some content; its digest."""
        plan = self.root / "some.plan"
        plan.write_bytes(f"{name} {content} ".encode() * 50)
        digest = hashlib.sha256(plan.read_bytes()).hexdigest()
        engine = enter(name, plan, records(plan, **built), self.root)
        plan.unlink()
        path = engine.report_path
        path.unlink(missing_ok=True)
        if valid:
            path.parent.mkdir(parents=True, exist_ok=True)
            card = {"gpu": {**report(engine)["gpu"], "gpu": built.get("gpu", CARD["gpu"])}}
            path.write_text(json.dumps(report(engine, **card)))
        return digest

    def change(self, **settings: Any) -> None:
        """Change `registry` in params.yaml."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params["registry"] = {**params.get("registry", {}), **settings}
        path.write_text(yaml.safe_dump(params))


def git(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def make_team(folder: Path) -> Team:
    """A team whose origin has a project."""
    team = Team(folder)
    git(folder, "init", "--quiet", "--bare", str(team.origin))
    git(team.origin, "config", "uploadpack.allowFilter", "true")
    first = folder / "first"
    (first / ".dvc").mkdir(parents=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    (first / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copyfile(ROOT / ".dvc/.gitignore", first / ".dvc/.gitignore")
    remote = f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {team.remote}\n"
    (first / ".dvc/config").write_text(remote)
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Project"]):
        git(first, *arguments)
    git(first, "push", "--quiet", str(team.origin), "HEAD:main")
    git(team.origin, "symbolic-ref", "HEAD", "refs/heads/main")
    return team


def clone(team: Team, name: str) -> Machine:
    """A machine of the team's."""
    git(team.folder, "clone", "--quiet", str(team.origin), name)
    return Machine(team.folder / name)


def identity(folder: Path) -> Mapping[str, str]:
    """The variables with which git knows somebody, and nothing else of this machine."""
    config = folder / "gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    return {**os.environ, "GIT_CONFIG_GLOBAL": str(config), "GIT_CONFIG_NOSYSTEM": "1"}
