"""What DVC restores from its cache and from a remote: no byte of it is believed unchecked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from enginery.errors import EngineryError
from enginery.pipeline.lockfile import md5_of
from tests.pipeline.common import ENGINE, PLAN, Project, flip, lose, object_of


@pytest.mark.parametrize("place", [PLAN, "folder/deep/one"])
def test_a_damaged_object_in_the_cache_is_not_restored(project: Project, place: str) -> None:
    before = project.digests()
    flip(project.cached(object_of(project, place)))
    stage, output = ("file", PLAN) if place == PLAN else ("folder", "folder")
    lose(project, output)
    states = project.build()
    assert states[stage] == "completed"  # there is no remote
    assert project.digests() == before
    assert project.warnings == [
        f"{output} is damaged, and neither DVC's cache nor a remote has its bytes"
    ]
    assert (
        project.cached(object_of(project, place)).read_bytes()
        == (project.root / place).read_bytes()
    )
    assert set(project.build().values()) == {"cached"}


@pytest.mark.parametrize("what", ["file", "list of files"])
@pytest.mark.usefixtures("remote")
def test_a_damaged_object_is_fetched_from_the_remote_again(project: Project, what: str) -> None:
    before = project.digests()
    digest = object_of(project, "folder" if what == "list of files" else "folder/two")
    if what == "file":
        flip(project.cached(digest))
    else:
        path = project.cached(digest)
        listing = path.read_text()
        path.chmod(0o600)
        path.write_text(listing.replace("deep/one", "deep/eno"))
        path.chmod(0o444)
    lose(project, "folder")
    assert project.build() == {"file": "cached", "folder": "restored", "kept": "cached"}
    assert project.digests() == before
    assert project.warnings == [
        "folder was damaged in the work tree: its bytes are those of the remote again"
    ]
    assert set(project.build().values()) == {"cached"}


def test_an_object_that_is_damaged_in_the_remote_is_not_restored(
    project: Project, remote: Path
) -> None:
    before = project.digests()
    digest = object_of(project, "folder/two")
    flip(remote / digest[:2] / digest[2:])
    subprocess.run(["rm", "-rf", project.root / ".dvc/cache"], check=True)
    lose(project, PLAN, "folder")
    states = project.build()
    assert (states["file"], states["folder"]) == ("restored", "completed")
    assert project.digests() == before
    assert project.warnings == [
        "folder is damaged, and neither DVC's cache nor a remote has its bytes"
    ]


def test_what_a_step_writes_is_not_replaced_by_a_damaged_object(project: Project) -> None:
    """DVC finds the object in its cache and links it in the place of what the step wrote."""
    before = project.digests()
    digest = object_of(project, f"{ENGINE}/model.plan")
    flip(project.cached(digest))
    (project.root / ENGINE / "model.plan").write_bytes(b"altered")
    assert project.build()["kept"] == "completed"
    assert project.digests() == before
    assert md5_of(project.cached(digest)) == digest
    assert len(project.warnings) == 1


def test_a_remote_that_fails_is_one_line(project: Project, remote: Path) -> None:
    digest = object_of(project, PLAN)
    flip(project.cached(digest))
    path = remote / digest[:2] / digest[2:]
    path.unlink()
    path.mkdir()
    (path / "x").touch()
    lose(project, PLAN)
    with pytest.raises(
        EngineryError, match=f"^object {digest} cannot be fetched from the remote: .*Is a directory"
    ):
        project.build()
