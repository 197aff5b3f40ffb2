"""Folders that are whole or absent, whenever their writer stops."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import DiskFullError
from enginery.system import files
from enginery.system.files import atomic_folder, atomic_write, scratch, sweep_below

sys.path.append(str(Path(files.__file__).parents[1] / "toolchain/child"))
import base

GONE = 999_999_999  # a process number that Linux does not give


def test_a_folder_takes_the_place_of_another_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for text in ("first", "second"):
        with atomic_folder(folder) as partial:
            (partial / text).write_text(text)
        assert [path.name for path in folder.iterdir()] == [text]
    with pytest.raises(RuntimeError), atomic_folder(folder) as partial:
        (partial / "third").write_text("third")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_one_left_in_the_scratch_folder_is_swept(tmp_path: Path) -> None:
    (tmp_path / f".scratch.abc.{GONE}.part").mkdir()
    with scratch(tmp_path) as first, scratch(tmp_path) as second:
        (first / "images.npy").touch()
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert list(tmp_path.iterdir()) == []


def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    for name in (f".made.{GONE}.part", f".made.old.{GONE}.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    with atomic_folder(tmp_path / "made"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def test_a_folder_that_a_killed_one_put_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / f".made.old.{GONE}.part").mkdir()
    (tmp_path / f".made.old.{GONE}.part" / "first").touch()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "made"):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def test_what_killed_writers_left_anywhere_below_a_folder_goes_or_comes_back(
    tmp_path: Path,
) -> None:
    aside, half = (
        tmp_path / f"engines/.fp16.old.{GONE}.part",
        tmp_path / f"models/.graph.{GONE}.part",
    )
    for folder in (aside, half / f".scratch.x.{GONE}.part"):
        folder.mkdir(parents=True)
        (folder / "first").touch()
    (tmp_path / f".list.json.{GONE}.part").touch()
    (tmp_path / f".mine.{os.getpid()}.part").touch()  # its writer is at work
    sweep_below(tmp_path)
    files = [
        path.relative_to(tmp_path).as_posix()
        for path in sorted(tmp_path.rglob("*"))
        if path.is_file()
    ]
    assert files == [f".mine.{os.getpid()}.part", "engines/fp16/first"]
    assert not half.exists()


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_a_folder_is_never_absent_where_two_can_change_places(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exchanges: bool,
) -> None:
    seen = []
    rename = files._exchange

    def watched(first: Path, second: Path) -> bool:
        done = exchanges and rename(first, second)
        seen.append((done, second.exists() and next(second.iterdir()).name))
        return done

    monkeypatch.setattr(files, "_exchange", watched)
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "made") as partial:
            (partial / text).write_text(text)
    assert seen == [(False, False), (exchanges, "second" if exchanges else "first")]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def written(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text)


def written_by_a_child(path: Path, text: str) -> None:
    base.write_whole(str(path), text.encode())


def written_as_a_folder(path: Path, text: str) -> None:
    with atomic_folder(path.parent) as partial:
        (partial / path.name).write_text(text)


@pytest.mark.parametrize("write", [written, written_by_a_child, written_as_a_folder])
def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Any,
) -> None:
    """The order of a database. The file is the very one that was written, not a copy."""
    path = tmp_path / "folder/file"
    path.parent.mkdir()
    calls: list[tuple[str, str, int]] = []
    sync, replace, exchange = os.fsync, os.replace, files._exchange

    def remember(what: str, name: str) -> None:
        calls.append((what, name, Path(name).stat().st_ino))

    def synced(descriptor: int) -> None:
        remember("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(
        os, "replace", lambda old, new: (remember("name", os.fspath(old)), replace(old, new))
    )
    monkeypatch.setattr(
        files,
        "_exchange",
        lambda old, new: (remember("name", os.fspath(old)), exchange(old, new))[1],
    )
    write(path, "text")
    [renamed] = [index for index, call in enumerate(calls) if call[0] == "name"]
    before, after = calls[:renamed], calls[renamed + 1 :]
    inode = path.stat().st_ino
    assert ("sync", inode) in [(what, number) for what, _, number in before]
    assert [call[:2] for call in after] == [
        ("sync", str(path.parent if write is not written_as_a_folder else tmp_path))
    ]
    if write is written_as_a_folder:
        assert before[-1][1].endswith(".part")  # the names in it, too
    assert path.read_text() == "text"


@pytest.mark.parametrize("write", [written, written_by_a_child])
def test_a_writer_sweeps_what_a_killed_one_of_either_kind_left(tmp_path: Path, write: Any) -> None:
    left = tmp_path / f".file.{GONE}.part"
    other = tmp_path / f".file.{os.getppid()}.part"  # of one that still writes
    left.touch()
    other.touch()
    write(tmp_path / "file", "text")
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / "file"])


def test_a_child_that_cannot_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        base.write_whole(str(tmp_path / "file"), b"text")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_by_what_lies_on_it(tmp_path: Path) -> None:
    def no_room(path: Path | None = None) -> OSError:
        return OSError(
            errno.ENOSPC, "No space left on device", *([] if path is None else [str(path)])
        )

    made = tmp_path / "made"
    with (
        pytest.raises(DiskFullError, match=f"no room to write {made}. Free some space, then"),
        atomic_folder(made) as partial,
    ):
        raise no_room()
    with (
        pytest.raises(DiskFullError, match=f"no room to write {made}. Free"),
        atomic_folder(made) as partial,
    ):
        raise no_room(partial / "file")
    with (
        pytest.raises(DiskFullError, match=f"no room to write {made}. Free"),
        atomic_folder(made) as partial,
        atomic_write(partial / "file"),
    ):
        raise no_room()
    with (
        pytest.raises(DiskFullError, match="no room to write /elsewhere/file"),
        atomic_folder(made),
    ):
        raise no_room(Path("/elsewhere/file"))
    with pytest.raises(OSError, match="not ours"), atomic_folder(made):
        raise OSError(errno.EIO, "not ours")


MOUNT = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount() -> bool:
    try:
        return subprocess.run([*MOUNT, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_mount(), reason="this machine lets nobody mount a small file system")
def test_a_full_tmpdir_is_blamed_on_itself(tmp_path: Path) -> None:
    """On a file system of 64 KiB; what is written there is a part of a folder elsewhere."""
    small = tmp_path / "small"
    small.mkdir()
    code = (
        "import sys; from pathlib import Path; from enginery.system.files import atomic_folder, temporary_folder\n"
        "with atomic_folder(Path(sys.argv[1]) / 'made'), temporary_folder() as folder:\n"
        "    (folder / 'file').write_bytes(b'x' * 1_000_000)"
    )
    script = 'mount -t tmpfs -o size=64k tmpfs "$1" && TMPDIR="$1" exec "$2" -c "$3" "$4"'
    command = [*MOUNT, "sh", "-c", script, "sh", str(small), sys.executable, code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert (
        f"no room to write {small}. Free some space there, or set TMPDIR to a folder that has some"
        in last
    )
    assert list(tmp_path.iterdir()) == [small]
