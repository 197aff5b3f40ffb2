"""Timing caches with the real DVC: kept, pushed, restored in another checkout, and never lost to an
empty folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enginery.pipeline import Pipeline
from tests.conftest import Checkout

MINE = Path("artifacts/timing/mine/8.6.0-some-GPU/builds-1.timing")
STAGE = "timing@mine"


def named(params: dict[str, Any]) -> None:
    params["toolchains"] = {"mine": {"python": sys.executable}}


def dvc(folder: Path, *command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "dvc", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def first(fresh: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose builds have measured something, kept and pushed."""
    monkeypatch.chdir(fresh.root)
    fresh.change(named)
    fresh.write_matrix()
    monkeypatch.setenv("PATH", fresh.environment()["PATH"])
    dvc(fresh.root, "remote", "add", "--default", "store", str(tmp_path / "store"))
    dvc(fresh.root, "repro", "--single-item", "fingerprint")
    dvc(fresh.root, "repro", "--single-item", STAGE)
    (fresh.root / MINE).parent.mkdir(parents=True)
    (fresh.root / MINE).write_bytes(b"measured")
    assert Pipeline().stale(STAGE)
    dvc(fresh.root, "repro", "--single-item", STAGE)
    assert not Pipeline().stale(STAGE)
    dvc(fresh.root, "push", STAGE)
    return fresh.root


def test_another_checkout_restores_it_before_it_builds(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second"
    shutil.copytree(first, second, symlinks=True, ignore=shutil.ignore_patterns("timing", "cache"))
    (second / "artifacts/recipes/timing").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(
        first / "artifacts/recipes/timing/mine.json", second / "artifacts/recipes/timing/mine.json"
    )
    monkeypatch.chdir(second)
    lock = (second / "dvc.lock").read_text()
    Pipeline().reproduce(STAGE, lambda event: None)
    assert (second / MINE).read_bytes() == b"measured"
    assert (second / "dvc.lock").read_text() == lock


def test_what_a_build_adds_is_kept_beside_what_was_there(first: Path) -> None:
    (first / MINE).with_name("builds-2.timing").write_bytes(b"more")
    for name in (
        ".builds-3.timing.999999999.part",
        "builds-3.timing.999999999.part",
    ):  # of builds that were killed
        (first / MINE).with_name(name).write_bytes(b"half")
    dvc(first, "repro", "--single-item", STAGE)
    shutil.rmtree(first / "artifacts/timing")
    dvc(first, "checkout", STAGE)
    assert sorted(path.name for path in (first / MINE).parent.iterdir()) == [
        "builds-1.timing",
        "builds-2.timing",
    ]
