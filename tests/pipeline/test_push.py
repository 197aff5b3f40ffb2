"""`push`: another clone restores every build, and nothing damaged is carried."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from enginery.pipeline.lockfile import md5_of
from tests.pipeline.common import PLAN, Project, Run, flip, lose, object_of


def clone_of(project: Project, folder: Path) -> Project:
    """Another clone of the last commit."""
    subprocess.run(
        ["git", "clone", "--quiet", project.root, folder], check=True, capture_output=True
    )
    return Project(folder)


def change_source(project: Project, text: str) -> None:
    (project.root / "source").write_text(text * 200)


@pytest.fixture
def shared(project: Project, tmp_path: Path) -> Path:
    """An empty remote of the project, which its clones have, too."""
    project.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    project.git("commit", "--quiet", "--all", "--message=remote")
    return tmp_path / "remote"


def test_another_clone_restores_every_build(
    project: Project, shared: Path, enginery: Run, tmp_path: Path
) -> None:
    before = project.digests()
    change_source(project, "other bytes\n")
    other = project.build()
    assert other["file"] == "completed"
    changed = project.digests()
    change_source(project, "some bytes\n")
    assert (
        project.build()["file"] == "restored"
    )  # and back: only the run-cache names what was built in between
    code, out, error = enginery("push")
    assert (code, error) == (0, "")
    assert out.startswith("sent 8 objects (0.0 MB) and 4 cached builds to shared (")
    assert (
        "the remote has 8 objects and 4 cached builds of this checkout: asked for there, one by one\n"
        in out
    )
    assert enginery("push")[1].startswith("sent 0 objects (0.0 MB) and 0 cached builds to shared (")
    clone = clone_of(project, tmp_path / "clone")
    states = clone.build()
    assert (states, clone.digests()) == (
        {"file": "restored", "folder": "restored", "kept": "restored"},
        before,
    )
    change_source(clone, "other bytes\n")
    states = clone.build()
    assert ({states["file"], states["folder"]}, clone.digests()) == ({"restored"}, changed)
    assert clone.warnings == []


def test_what_is_damaged_or_lost_is_not_carried_and_named(
    project: Project, shared: Path, enginery: Run
) -> None:
    digest = object_of(project, "folder/two")
    flip(project.cached(digest))
    code, out, error = enginery("push")
    assert code == 1
    assert [line.partition(" (")[0] for line in error.splitlines()[:2]] == [
        "not carried: folder",
        "not carried: a cached build of folder",
    ]
    assert "1 of 3 objects are not whole in DVC's cache, nor at the remote" in error
    assert not (shared / "files/md5" / digest[:2] / digest[2:]).exists()
    assert "1 cached builds" in out
    lose(project, "folder")
    project.build()
    assert enginery("push")[0] == 0


def test_what_the_remote_lost_or_has_damaged_is_sent_again(
    project: Project, shared: Path, enginery: Run
) -> None:
    assert enginery("push")[0] == 0
    lost, damaged = (object_of(project, place) for place in ("folder/two", PLAN))
    (shared / "files/md5" / lost[:2] / lost[2:]).unlink()
    flip(shared / "files/md5" / damaged[:2] / damaged[2:])
    assert enginery("push")[1].startswith("sent 2 objects")
    assert [
        md5_of(shared / "files/md5" / digest[:2] / digest[2:]) for digest in (lost, damaged)
    ] == [lost, damaged]


def test_what_this_clone_never_had_is_at_the_remote(
    project: Project, shared: Path, enginery: Run, tmp_path: Path
) -> None:
    assert enginery("push")[0] == 0
    subprocess.run(["rm", "-rf", project.root / ".dvc/cache"], check=True)
    assert enginery("push")[:2][0] == 0


def test_no_remote_or_one_that_fails_is_one_line(
    project: Project, enginery: Run, tmp_path: Path
) -> None:
    code, out, error = enginery("push")
    assert (code, out) == (1, "")
    assert error.startswith(
        "error: no DVC remote is configured, so there is nowhere to push to. Add one: dvc remote add"
    )
    (tmp_path / "file").touch()
    project.dvc("remote", "add", "--default", "shared", str(tmp_path / "file/remote"))
    code, out, error = enginery("push")
    assert (code, len(error.splitlines())) == (1, 1), error
    assert error.startswith("error: the DVC remote shared (")
