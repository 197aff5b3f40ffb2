"""The numbers of engines and graphs as DVC's metrics and plots: two commits, by DVC's own command."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from enginery.system.files import read_json, write_json
from tests.conftest import ROOT, Checkout

GRAPH = "artifacts/models/yolov8n-shapes/int8"
ENGINE = "yolov8n-shapes/rtx-ada/int8"


def git(root: Path, *words: str) -> None:
    user = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *user, *words], cwd=root, check=True, capture_output=True)


def dvc(checkout: Checkout, *words: str) -> str:
    result = checkout.run("dvc", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_two_commits_are_compared(built: Checkout) -> None:
    shutil.copyfile(ROOT / ".gitignore", built.root / ".gitignore")
    git(built.root, "add", "-A")
    git(built.root, "commit", "-m", "one")
    before = read_json(built.root / GRAPH / "metrics.json")
    write_json(built.root / GRAPH / "metrics.json", {**before, "lost": before["lost"] + 0.5})
    classes = built.root / GRAPH / "classes.csv"
    classes.write_text(classes.read_text().replace("disc,0", "disc,1"))
    dvc(built, "commit", "--force", "validate@yolov8n-shapes-int8")
    git(built.root, "add", "-A")
    git(built.root, "commit", "-m", "two")
    changed = json.loads(dvc(built, "metrics", "diff", "HEAD~1", "HEAD", "--json"))
    assert changed.keys() == {f"{GRAPH}/metrics.json"}
    assert changed[f"{GRAPH}/metrics.json"]["lost"]["diff"] == 0.5
    every = json.loads(dvc(built, "metrics", "show", "--json"))[""]["data"]
    assert every[f"artifacts/metrics/{ENGINE}.json"]["data"]["megabytes"] > 1
    assert every[f"artifacts/build/{ENGINE}/measured.json"]["data"]["seconds"] > 0
    dvc(built, "plots", "diff", "HEAD~1", "HEAD", "--out", "plots")
    page = (built.root / "plots/index.html").read_text(encoding="utf-8")
    assert "yolov8n-shapes int8 by class" in page and "yolov8n-shapes fp16 by class" in page
