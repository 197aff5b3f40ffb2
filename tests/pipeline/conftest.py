"""A project in which everything is up to date, its remote, and the command run in it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from enginery.cli.main import main
from tests.pipeline.common import SCRIPT, TEMPLATE, Project


@pytest.fixture(scope="package")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("projects") / "project ü")
    (project.root / ".dvc").mkdir(parents=True)
    (project.root / ".dvc/config").write_text(
        "[core]\n    analytics = false\n    check_update = false\n"
    )
    (project.root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (project.root / ".gitignore").write_text("/artifacts\n/folder\n")
    (project.root / "dvc.yaml").write_text(SCRIPT)
    (project.root / "template.json").write_text(TEMPLATE)
    (project.root / "source").write_text("some bytes\n" * 200)
    project.git("init", "--quiet")
    assert set(project.build().values()) == {"completed"}
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=all")
    assert (project.said, project.warnings) == ([], [])
    return project


@pytest.fixture
def project(_built: Project, tmp_path: Path) -> Project:
    """A copy in which everything is up to date."""
    root = tmp_path / "project ü"
    subprocess.run(["cp", "-a", _built.root, root], check=True)
    return Project(root)


@pytest.fixture
def remote(project: Project, tmp_path: Path) -> Path:
    """The project's remote, a folder, to which all was pushed."""
    project.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    project.dvc("push", "--run-cache")
    return tmp_path / "remote/files/md5"


@pytest.fixture
def enginery(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in the project: its exit code, what it printed, its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(project.root)
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return run
