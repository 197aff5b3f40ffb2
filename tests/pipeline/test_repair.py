"""The real DVC in small projects: what a kill leaves is repaired in one line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from enginery.errors import BusyError, DiskFullError, EngineryError
from enginery.pipeline import Pipeline
from enginery.pipeline.disk import disk_full_guard
from enginery.pipeline.repair import KEPT, repair
from tests.pipeline.common import Project


def cut_in_last_digest(content: bytes) -> bytes:
    return content[: content.rindex(b"md5: ") + len("md5: 1234")]


def cut_before_last_stage(content: bytes) -> bytes:
    return content[: content.rindex(b"  kept:")]


def cut_within_a_stage(content: bytes) -> bytes:
    return content[: content.index(b"    outs:\n")]


LEFT = {
    "empty": lambda content: b"",
    "blank": lambda content: b"\n",
    "no YAML": lambda content: content[: content.index(b"cmd") + 2],
    "no bytes of text": lambda content: b"\xff" * len(content),
    "zeros": lambda content: b"\0" * len(content),
    "a list": lambda content: b"- 1\n",
    "schema alone": lambda content: b"schema: '2.0'\n",
    "a path alone": lambda content: content[: content.rindex(b"      hash:")],
    "half a digest": cut_in_last_digest,
    "last stage lost": cut_before_last_stage,
    "stage without outputs": cut_within_a_stage,
}


SAME = ("last stage lost", "stage without outputs")  # lock files, as DVC reads them


def damage_lock_file(project: Project, left: str, source: str) -> None:
    lock = project.root / "dvc.lock"
    lock.write_bytes(LEFT[left](lock.read_bytes()))
    if source != "kept":
        (project.root / KEPT).unlink()
    if source == "nothing":
        project.git("rm", "--quiet", "--cached", "dvc.lock")
        project.git("commit", "--quiet", "--message=none")


@pytest.mark.parametrize("source", ["kept", "committed", "nothing"])
@pytest.mark.parametrize("left", sorted(LEFT.keys() - {*SAME}))
def test_a_damaged_lock_file_is_repaired_in_one_line(
    project: Project, left: str, source: str
) -> None:
    whole = (project.root / "dvc.lock").read_bytes()
    damage_lock_file(project, left, source)
    for _ in range(2):
        repair(project.root, project.said.append)
    lock = project.root / "dvc.lock"
    assert (lock.read_bytes() if lock.is_file() else b"") == (b"" if source == "nothing" else whole)
    [line] = project.said
    how = {
        "kept": "as the last step that ended well left it",
        "committed": "as it was committed last",
        "nothing": "taken away",
    }
    short = left in ("schema alone", "a path alone", "half a digest")
    why = (
        "it is empty"
        if left in ("empty", "blank")
        else "it is cut short"
        if short
        else "it is cut short or altered"
    )
    assert (
        line
        == f"dvc.lock was damaged ({why}) and is {how[source]}; what was built since is restored from DVC's cache"
    )


def test_copies_that_are_damaged_too_are_passed_over(project: Project) -> None:
    whole = (project.root / "dvc.lock").read_bytes()
    (project.root / KEPT).write_bytes(whole[:-4])
    (project.root / "dvc.lock").write_bytes(b"")
    repair(project.root, project.said.append)
    assert (project.root / "dvc.lock").read_bytes() == whole
    assert "as it was committed last" in project.said[0]


@pytest.mark.parametrize(
    ("left", "source"),
    [("empty", "kept"), ("empty", "nothing"), *((left, "kept") for left in SAME)],
)
def test_after_a_damaged_lock_file_nothing_is_built_again(
    project: Project, left: str, source: str
) -> None:
    before = project.digests()
    damage_lock_file(project, left, source)
    states = project.build()
    assert {states["file"], states["folder"]} <= {"cached", "restored"}
    assert source == "nothing" or left in SAME or set(states.values()) == {"cached"}
    assert project.digests() == before
    assert len(project.said) == (left not in SAME)


def test_dvc_by_hand_while_the_lock_file_is_looked_at_is_waited_for(project: Project) -> None:
    (project.root / "dvc.lock").write_bytes(b"")
    code = "import sys, zc.lockfile; held = zc.lockfile.LockFile('.dvc/tmp/lock'); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match="a DVC command is at work in this checkout"):
        repair(project.root, project.said.append)
    holder.communicate(b"")
    repair(project.root, project.said.append)
    assert len(project.said) == 1


@pytest.mark.parametrize("left", ["", "{", "[]", '{"read": 1}', '{"write": {"/x": {"pid": 1}}}'])
def test_a_half_written_list_of_locks_is_taken_away(project: Project, left: str) -> None:
    path = project.root / ".dvc/tmp/rwlock"
    path.write_text(left)
    repair(project.root, project.said.append)
    assert not path.exists()


def test_a_lock_of_a_killed_process_whose_number_another_has_is_none(project: Project) -> None:
    """A container gives the same numbers at every start."""
    path = project.root / ".dvc/tmp/rwlock"
    alive = {"pid": os.getpid(), "cmd": " ".join(sys.argv)}
    other = {"pid": os.getppid(), "cmd": "dvc repro file"}
    path.write_text(
        json.dumps(
            {"read": {"/a": [alive, other], "/b": [other]}, "write": {"/c": other, "/d": alive}}
        )
    )
    repair(project.root, project.said.append)
    assert json.loads(path.read_text()) == {"read": {"/a": [alive]}, "write": {"/d": alive}}


def test_what_killed_writers_left_is_swept_and_a_writer_at_work_is_not_disturbed(
    project: Project,
) -> None:
    token = "A" * 11 + "-_" + "b" * 9
    entries = sorted((project.root / ".dvc/cache/runs").glob("*/*/*"))
    cut = entries[0]
    cut.write_bytes(cut.read_bytes()[:-20])
    empty = cut.parent.parent / ("0" * 64)
    empty.mkdir()
    left = [
        project.cached("00" + "0" * 30).parent / f".{token}.tmp",
        project.root / f".dvc/cache/files/md5/.{token}.tmp",
        cut.parent / f".{token}.tmp",
        project.root / "artifacts/models/.x.999999999.part",
        project.root / ".dvc/tmp/.dvc.lock.kept.999999999.part",
        project.root / f"artifacts/models/x.{token}.tmp",
    ]
    kept = [
        project.root / f"artifacts/models/.x.{os.getpid()}.part",
        project.root / "artifacts/models/x.tmp",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    folder = project.root / "artifacts/models/.y.999999999.part"
    folder.mkdir()
    (folder / "z").touch()
    repair(project.root, project.said.append)
    assert [path for path in (*left, cut, cut.parent, empty, folder) if path.exists()] == []
    assert all(path.exists() for path in (*kept, *entries[1:]))
    assert project.said == []


def test_a_merge_conflict_is_left_to_its_user(project: Project) -> None:
    lock = project.root / "dvc.lock"
    lock.write_text("<<<<<<< HEAD\n" + lock.read_text())
    with pytest.raises(EngineryError, match=r"^dvc\.lock holds a merge conflict\. Resolve it"):
        repair(project.root, project.said.append)
    assert lock.read_text().startswith("<<<<<<< HEAD")


def test_a_folder_in_the_place_of_the_lock_file_is_left_to_its_user(project: Project) -> None:
    lock = project.root / "dvc.lock"
    lock.unlink()
    (lock / "inside").mkdir(parents=True)
    with pytest.raises(EngineryError, match=r"dvc\.lock is no plain file\. Move it away; take dvc"):
        repair(project.root, project.said.append)
    assert (lock / "inside").is_dir()


def test_stages_that_dvc_does_not_take_are_one_line(project: Project) -> None:
    path = project.root / "dvc.yaml"
    path.write_text(path.read_text() + "    nonsense: 1\n")
    line = r"^dvc\.yaml: .*stages\.[a-z]+\.nonsense: extra keys not allowed\. Correct dvc\.yaml$"
    with contextlib.chdir(project.root), pytest.raises(EngineryError, match=line):
        Pipeline(say=project.said.append).graph()  # what a run does first


@pytest.mark.parametrize(
    "said",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        EngineryError(
            "file failed: failed to reproduce 'file': [Errno 28] No space left on device"
        ),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_that_dvc_does_not_name_is_the_one_with_the_least_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Exception
) -> None:
    for name in (".dvc/cache", ".dvc/tmp", "artifacts", "data"):
        (tmp_path / name).mkdir(parents=True)
    for full in (".dvc/cache", ".dvc/tmp", "artifacts", "data", "dvc.lock"):
        place = tmp_path if full == "dvc.lock" else tmp_path / full

        def usage(path: Path, place: Path = place) -> SimpleNamespace:
            return SimpleNamespace(free=0 if path == place else 5)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        with pytest.raises(DiskFullError) as error, disk_full_guard(tmp_path, [Path("data")]):
            raise said
        assert str(error.value) == f"no room to write {full}. Free some space, then run again"
    with pytest.raises(DiskFullError, match="no room to write x"), disk_full_guard(tmp_path):
        raise DiskFullError(Path("x"))
    with pytest.raises(ValueError, match="other"), disk_full_guard(tmp_path):
        raise ValueError("other")


def test_a_folder_that_is_no_project_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(EngineryError, match="is no DVC project"):
        Pipeline(tmp_path)
    assert list(tmp_path.iterdir()) == []
