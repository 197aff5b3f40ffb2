"""What DVC remembers lies where no other user writes."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from enginery.pipeline import Pipeline
from enginery.pipeline.site_cache import private_site_cache
from tests.pipeline.common import Project


def site_cache(project: Project, folder: str = ".") -> str:
    """Where a DVC that is started by hand keeps what it remembers."""
    code = "from dvc.repo import Repo; print(Repo().site_cache_dir)"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=project.root / folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_what_dvc_remembers_lies_where_no_other_user_enters(project: Project) -> None:
    closed = project.root.resolve() / f".dvc/tmp/site-{os.geteuid()}"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    with contextlib.chdir(project.root):
        Pipeline()  # the project was moved here
    assert Path(site_cache(project, "folder")).is_relative_to(closed)
    assert not (project.root / "folder/.dvc").exists()
    assert [path for path in closed.rglob("*") if path.stat().st_mode & 0o002] == []


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_what_others_could_have_written_is_not_believed(
    project: Project, tmp_path: Path, kind: str
) -> None:
    closed = project.root / f".dvc/tmp/site-{os.geteuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "planted").touch()
    subprocess.run(["rm", "-r", closed], check=True)
    if kind == "link":
        closed.symlink_to(elsewhere)
    elif kind == "file":
        closed.touch()
    else:
        closed.mkdir()
        (closed / "planted").touch()
        closed.chmod(0o777)
    private_site_cache(project.root)
    assert [path.name for path in closed.iterdir()] == ["repo"]
    assert (stat.S_IMODE(closed.lstat().st_mode), (elsewhere / "planted").exists()) == (0o700, True)


def test_the_users_own_settings_stay(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    config = project.root / ".dvc/config.local"
    config.write_text(
        "# mine\n['remote \"s\"']\n    url = s3://b  # bucket\n    password = x\n[core]\n    remote = s\n"
    )
    config.chmod(0o600)
    folder = private_site_cache(project.root)
    said = config.read_text()
    assert all(
        line in said
        for line in (
            "# mine",
            "# bucket",
            "password = x",
            "remote = s",
            f"site_cache_dir = {folder}",
        )
    )
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    config.write_text("[core]\n    site_cache_dir = /mine\n")
    private_site_cache(project.root)
    assert config.read_text() == "[core]\n    site_cache_dir = /mine\n"
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "/named")
    assert private_site_cache(project.root) == "/named"
