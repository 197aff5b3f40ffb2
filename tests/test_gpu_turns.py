"""GPUs without a GPU: none is listed, and the turn on one, which is a lock of the kernel's, between
real processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from enginery.errors import GpuError
from enginery.gpu.inventory import gpus
from enginery.gpu.turns import TURNS, gpu_lock, reserved

NAME = f"GPU-of-tests-{os.getpid()}"
LOCK = TURNS / f"enginery-{NAME}.lock"
HOLD = "import sys; from enginery.gpu.turns import gpu_lock\nwith gpu_lock(sys.argv[1], print): print('mine', flush=True); sys.stdin.read()"
without_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def locks() -> Iterator[None]:
    """The lock of these tests is no GPU's; it is taken away at the end."""
    yield
    for lock in TURNS.glob(f"{LOCK.stem}*"):
        lock.unlink()


def hold(name: str = NAME) -> subprocess.Popen[str]:
    """Another process whose turn it is, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "mine\n"
    return process


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    process = hold()
    yield process
    process.kill()
    process.wait()


def refuse(message: str) -> None:
    raise AssertionError(f"waited: {message}")


@pytest.mark.parametrize("ending", ["ends", signal.SIGTERM, signal.SIGKILL])
def test_the_turn_comes_when_the_other_process_ends_however_it_does(
    holder: subprocess.Popen[str], ending: str | signal.Signals
) -> None:
    told: list[str] = []
    waiting, got = threading.Event(), threading.Event()

    def on_wait(message: str) -> None:
        told.append(message)
        waiting.set()

    def wait() -> None:
        with gpu_lock(NAME, on_wait):
            got.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert waiting.wait(20)
    assert told == [f"waiting for GPU {NAME}: process {holder.pid} uses it"]
    assert not got.wait(0.3)
    assert holder.stdin
    if isinstance(ending, signal.Signals):
        holder.send_signal(ending)
    else:
        holder.stdin.close()
    assert got.wait(20)
    thread.join(20)
    assert not thread.is_alive()
    assert len(told) == 1


def test_a_turn_that_is_free_is_taken_at_once_and_given_back() -> None:
    LOCK.write_text("1" * 20)  # what a process before this one left
    for _ in range(2):
        with gpu_lock(NAME, refuse):
            assert LOCK.read_text() == str(os.getpid())
    hold().communicate("")  # another process gets it, too


def test_a_turn_is_given_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), gpu_lock(NAME, refuse):
        raise ZeroDivisionError
    with gpu_lock(NAME, refuse):
        pass


def test_another_gpu_is_another_turn(holder: subprocess.Popen[str]) -> None:
    with gpu_lock(f"{NAME}-other", refuse):
        assert holder.poll() is None


def test_the_name_of_a_process_that_was_killed_is_not_told_again(
    holder: subprocess.Popen[str],
) -> None:
    holder.kill()
    holder.wait()
    with gpu_lock(NAME, refuse):
        assert LOCK.read_text() != str(holder.pid)
    next_one = hold()
    told: list[str] = []

    def let_go(message: str) -> None:
        told.append(message)
        next_one.communicate("")

    with gpu_lock(NAME, let_go):
        assert told == [f"waiting for GPU {NAME}: process {next_one.pid} uses it"]


def test_a_waiting_process_that_is_interrupted_leaves_the_turn_alone(
    holder: subprocess.Popen[str],
) -> None:
    code = HOLD.replace("print)", "lambda said: print(said, flush=True))")
    other = subprocess.Popen(
        [sys.executable, "-c", code, NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    assert f"process {holder.pid} uses it" in other.stdout.readline()
    other.terminate()
    assert other.communicate()[0] == ""
    assert holder.poll() is None
    holder.communicate("")
    with gpu_lock(NAME, refuse):
        pass


def plant(kind: str, folder: Path) -> Path:
    """What another user may have put in the lock's place; the file that it leads to."""
    victim = folder / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    if kind == "link":
        LOCK.symlink_to(victim)
    elif kind == "dangling link":
        LOCK.symlink_to(folder / "none")
    elif kind == "second name":
        os.link(victim, LOCK)
    elif kind == "pipe":
        os.mkfifo(LOCK)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(LOCK))
    else:
        LOCK.mkdir()
    return victim


@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "second name", "pipe", "socket", "folder"]
)
def test_what_another_user_planted_is_neither_followed_nor_changed(
    tmp_path: Path, kind: str
) -> None:
    victim = plant(kind, tmp_path)
    mode = LOCK.lstat().st_mode
    try:
        with (
            pytest.raises(
                GpuError, match=f"^{LOCK} cannot serve as the lock of the GPU: .*Remove it, or"
            ),
            gpu_lock(NAME, refuse),
        ):
            pass
        assert LOCK.lstat().st_mode == mode
        assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("precious", 0o600)
        assert sorted(tmp_path.iterdir()) == [victim]
    finally:
        LOCK.rmdir() if kind == "folder" else LOCK.unlink()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_lock_is_open_to_other_users_whatever_the_umask(mask: int) -> None:
    before = os.umask(mask)
    try:
        with gpu_lock(NAME, refuse):
            assert stat.S_IMODE(LOCK.stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_a_lock_that_can_only_be_read_is_waited_for(
    holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's: root may write everywhere, so opening for writing is refused here."""
    opened = os.open

    def read_only(path: Path, flags: int, *rest: int, **more: int) -> int:
        if path == LOCK and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    told: list[str] = []

    def let_go(message: str) -> None:
        told.append(message)
        holder.communicate("")

    with gpu_lock(NAME, let_go):
        assert told == [f"waiting for GPU {NAME}: process {holder.pid} uses it"]
    assert LOCK.read_text() == str(holder.pid)


def test_what_a_hostile_lock_says_is_not_shown() -> None:
    told: list[str] = []
    LOCK.write_text("\x1b[2J evil")
    with LOCK.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def let_go(message: str) -> None:
            told.append(message)
            fcntl.flock(file, fcntl.LOCK_UN)

        with gpu_lock(NAME, let_go):
            assert told == [f"waiting for GPU {NAME}: another process uses it"]


def test_a_lock_that_is_removed_while_one_waits_is_made_anew(holder: subprocess.Popen[str]) -> None:
    def let_go(message: str) -> None:
        LOCK.unlink()
        holder.communicate("")

    with gpu_lock(NAME, let_go):
        assert LOCK.read_text() == str(os.getpid())


def test_without_a_gpu_there_is_nothing_to_wait_for() -> None:
    before = set(TURNS.glob("enginery-*.lock"))
    with reserved(None, 1 << 40, refuse):
        assert set(TURNS.glob("enginery-*.lock")) <= before


@without_gpu
def test_no_gpu_is_listed() -> None:
    assert gpus() == ()


@without_gpu
@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ([], "No NVIDIA GPU here: TensorRT-RTX builds without one, runtime tensorrt needs one.\n"),
        (["--json"], "[]\n"),
    ],
)
def test_the_command_on_a_machine_without_a_gpu(
    tmp_path: Path, arguments: list[str], out: str
) -> None:
    command = [sys.executable, "-m", "enginery", "gpus", *arguments]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, out, "")
    if arguments:
        assert json.loads(result.stdout) == []
