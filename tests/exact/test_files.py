"""Files and locks: whole or absent, one at a time, and nothing of a killed writer left."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from enginery.errors import BusyError, DiskFullError, EngineryError
from enginery.system import checkout_lock as lock
from enginery.system import files

GONE = 999_999_999  # a process number that Linux does not give


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_constants() -> None:
    assert set(files._FULL) >= {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    assert Path(".dvc/tmp/enginery.lock") == lock.LOCK


def test_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CHUNK", 3)
    (tmp_path / "b").write_bytes(b"0123456789")
    (tmp_path / "empty").write_bytes(b"")
    assert files.sha256(tmp_path / "b") == hashlib.sha256(b"0123456789").hexdigest()
    assert files.sha256(tmp_path / "empty") == hashlib.sha256(b"").hexdigest()
    (tmp_path / "a ü").mkdir()
    (tmp_path / "a ü" / "c").write_bytes(b"c")
    parts = [("a ü/c", b"c"), ("b", b"0123456789"), ("empty", b"")]
    text = "".join(f"{name}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in parts)
    assert files.sha256_tree(tmp_path) == hashlib.sha256(text.encode()).hexdigest()


def test_a_file_takes_its_place_in_one_move(tmp_path: Path) -> None:
    """The very file that was written, not a copy: readers see the old one or the new one, never a
    part.
    """
    path = tmp_path / "deep" / "a.txt"
    with files.atomic_write(path) as partial:
        assert partial.parent == path.parent
        partial.write_text("one")
        written = partial.stat().st_ino
        assert not path.exists()
    assert (path.stat().st_ino, path.read_text(), names(path.parent)) == (written, "one", ["a.txt"])
    with path.open() as reader:
        with files.atomic_write(path) as partial:
            partial.write_text("two")
            assert path.read_text() == "one"
        assert reader.read() == "one"
    assert (path.read_text(), names(path.parent)) == ("two", ["a.txt"])


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), files.atomic_write(path) as partial:
            partial.write_text("half")
            raise error
    assert (path.read_text(), names(tmp_path)) == ("old", ["a"])


def test_a_folder_takes_its_place_whole(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for text in ("one", "two"):
        with files.atomic_folder(folder) as partial:
            assert (partial.parent, partial != folder, names(partial)) == (tmp_path, True, [])
            (partial / text).write_text(text)
            written = partial.stat().st_ino
            assert not (folder / text).exists()
        assert (folder.stat().st_ino, names(folder), names(tmp_path)) == (written, [text], ["made"])


def test_only_what_dead_writers_of_this_file_left_is_swept(tmp_path: Path) -> None:
    kept = [
        "a",
        f".a.{os.getpid()}.part",
        f".ab.{GONE}.part",
        f".a.{GONE}",
        f"a.{GONE}.part",
        ".a.name.part",
        f".[b].{GONE}.part",
    ]
    for name in (*kept, f".a.{GONE}.part", f".a.old.{GONE}.part"):
        (tmp_path / name).write_text("")
    (tmp_path / f".a.folder.{GONE}.part").mkdir()
    (tmp_path / f".a.folder.{GONE}.part" / "inner").write_text("")
    files._sweep(tmp_path / "a")
    assert names(tmp_path) == sorted(kept)
    files._sweep(tmp_path / "[b]")
    assert f".[b].{GONE}.part" not in names(tmp_path)
    for name in kept[:6]:
        assert name in names(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_with_the_outermost_name(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(DiskFullError) as error,
        files.atomic_folder(tmp_path / "folder") as folder,
        files.atomic_write(folder / "file"),
    ):
        raise OSError(number, "no room")
    assert error.value.what == f"no room to write {tmp_path}/folder"
    assert str(error.value).startswith(f"no room to write {tmp_path}/folder. Free some space")
    assert names(tmp_path) == []
    with (
        pytest.raises(DiskFullError, match=f"no room to write {tmp_path}/file"),
        files.atomic_write(tmp_path / "file"),
    ):
        raise OSError(number, "no room")


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    for use in (files.atomic_write, files.atomic_folder):
        with pytest.raises(PermissionError), use(tmp_path / "a"):
            raise PermissionError(errno.EACCES, "no")
    assert names(tmp_path) == []


def test_a_scratch_folder_goes(tmp_path: Path) -> None:
    (tmp_path / f".scratch.x.{GONE}.part").mkdir()
    with files.scratch(tmp_path) as folder:
        assert (folder.parent, folder.is_dir()) == (tmp_path, True)
        assert folder.name.startswith(".scratch.")
        assert folder.name.endswith(f".{os.getpid()}.part")
        assert names(tmp_path) == [folder.name]
        (folder / "big").write_text("")
    assert names(tmp_path) == []


def test_json_is_sorted_indented_and_refuses_nan(tmp_path: Path) -> None:
    assert (
        files.dumps({"b": [1, "ü"], "a": None})
        == '{\n  "a": null,\n  "b": [\n    1,\n    "ü"\n  ]\n}\n'
    )
    with pytest.raises(ValueError, match="JSON"):
        files.dumps({"a": float("nan")})
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"b": "ü"})
    assert path.read_bytes() == '{\n  "b": "ü"\n}\n'.encode()
    assert files.read_json(path) == json.loads(path.read_text()) == {"b": "ü"}
    before = path.stat()
    files.write_json(path, {"b": "ü"})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    files.write_json(path, {"b": 2})
    assert files.read_json(path) == {"b": 2}
    assert names(path.parent) == ["a.json"]


def test_one_run_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is nobody else's while it is held, not even shared; then it is anybody's."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineryError) as missing, lock.checkout_lock():
        pass
    assert str(missing.value) == (
        f"{tmp_path} is no DVC project: it has no .dvc. "
        "Run this in the checkout's folder, or take .dvc from git again"
    )
    assert list(tmp_path.iterdir()) == []
    Path(".dvc").mkdir()
    with lock.checkout_lock():
        assert lock.LOCK.read_text() == str(os.getpid())
        for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            with lock.LOCK.open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, kind | fcntl.LOCK_NB)
        with pytest.raises(BusyError) as error, lock.checkout_lock():
            pass
        assert (
            str(error.value)
            == f"another run (process {os.getpid()}) is at work in this checkout. Wait for it to end"
        )
        assert lock.LOCK.read_text() == str(os.getpid())
    lock.LOCK.write_text("1" * 30)
    with pytest.raises(KeyError), lock.checkout_lock():
        assert lock.LOCK.read_text() == str(os.getpid())
        raise KeyError
    with lock.checkout_lock(), lock.LOCK.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with lock.LOCK.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_no_room_for_what_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DiskFullError) as error, files.temporary_folder() as folder:
        assert folder.parent == tmp_path
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.path == tmp_path
    assert error.value.cure == (
        "Free some space there, or set TMPDIR to a folder that has some, then run again"
    )
    with pytest.raises(PermissionError), files.temporary_folder():
        raise PermissionError(errno.EACCES, "Permission denied")
    assert names(tmp_path) == []


def test_a_scratch_folder_makes_what_is_above_it(tmp_path: Path) -> None:
    with files.scratch(tmp_path / "a" / "b") as folder:
        assert folder.parent == tmp_path / "a" / "b"


def test_what_lies_in_a_folder_is_on_the_disk_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    synced: list[Path] = []
    monkeypatch.setattr(files, "_sync", synced.append)
    files._sync_tree(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in synced] == ["a/b/c", "a/b", "a", "."]


def test_places_are_changed_at_once_where_that_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(name).mkdir()
        Path(name, name).touch()
    assert files._exchange(Path("a"), Path("b"))
    assert (names(Path("a")), names(Path("b"))) == (["b"], ["a"])
    assert not files._exchange(Path("a"), Path("none"))
    monkeypatch.setattr(ctypes, "CDLL", lambda *given, **named: SimpleNamespace())
    assert not files._exchange(Path("a"), Path("b"))
    assert names(Path("a")) == ["b"]


def test_a_folder_whose_name_speaks_of_old_ones_is_put_back(tmp_path: Path) -> None:
    (tmp_path / f".x.old.1.old.{GONE}.part").mkdir()
    files.sweep_below(tmp_path)
    assert names(tmp_path) == ["x.old.1"]


def test_what_cannot_be_swept_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / f".x.{GONE}.part").mkdir()
    monkeypatch.setattr(shutil, "rmtree", refuse)
    files.sweep_below(tmp_path)


def test_a_lock_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()

    def fail(number: int) -> None:
        def write(descriptor: int, data: bytes) -> int:
            raise OSError(number, "no")

        monkeypatch.setattr(os, "write", write)

    fail(errno.ENOSPC)
    with pytest.raises(DiskFullError) as error, lock.checkout_lock():
        pass
    assert error.value.path == lock.LOCK
    fail(errno.EIO)
    with pytest.raises(OSError, match="no") as other, lock.checkout_lock():
        pass
    assert not isinstance(other.value, DiskFullError)


def test_a_full_disk_as_numpy_says_it(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    with pytest.raises(OSError, match="requested and") as error:
        np.zeros(1 << 20, np.uint8).tofile("/dev/full")
    assert files.is_full(error.value)
    assert not files.is_full(OSError("odd"))
    with pytest.raises(DiskFullError) as said, files.atomic_folder(tmp_path / "set"):
        raise error.value
    assert said.value.path == tmp_path / "set"
