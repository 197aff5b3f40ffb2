"""The shipped params.yaml, a model and a data set of a team, and the files of a project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from enginery.project.init import InitRequest
from enginery.project.models import NewModel
from tests.conftest import ROOT

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")
MODEL = NewModel("best", "data/best/best.pt", "detect", "data/best/validation", "data/best/cal")
DEMO = InitRequest(None)


def files_of(root: Path) -> dict[str, bytes]:
    """Their contents by name, without what git and DVC keep for themselves."""
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    own = (".git/", ".dvc/tmp/", ".dvc/cache/")
    return {name: (root / name).read_bytes() for name in names if not name.startswith(own)}


def commands(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", *command]
    return subprocess.run(line, cwd=folder, text=True, capture_output=True, check=False)


def draw(folder: Path, count: int, first: int = 0, labels: bool = True) -> Path:
    """Files with the names of images, each with its own bytes."""
    folder.mkdir(parents=True)
    beside = Path(*["labels" if part == "images" else part for part in folder.parts])
    beside.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (folder / f"{number}.jpg").write_bytes(b"image %06d" % number)
        if labels:
            (beside / f"{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    return folder
