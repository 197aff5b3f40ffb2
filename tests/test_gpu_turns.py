"""GPUs without a GPU: none is listed, and the turn on one, which is a lock of the kernel's, between real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from enginery.gpu import TURNS, gpus, reserved, turn

NAME = f"GPU-of-tests-{os.getpid()}"
LOCK = TURNS / f"enginery-{NAME}.lock"
HOLD = "import sys; from enginery.gpu import turn\nwith turn(sys.argv[1], print): print('mine', flush=True); sys.stdin.read()"
without_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def locks() -> Iterator[None]:
    """The lock of these tests is no GPU's; it is taken away at the end."""
    yield
    for lock in TURNS.glob(f"{LOCK.stem}*"):
        lock.unlink()


def hold(name: str = NAME) -> subprocess.Popen[str]:
    """Another process whose turn it is, until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
def test_the_turn_comes_when_the_other_process_ends_however_it_does(holder: subprocess.Popen[str], ending: str | signal.Signals) -> None:
    told: list[str] = []
    waiting, got = threading.Event(), threading.Event()

    def on_wait(message: str) -> None:
        told.append(message)
        waiting.set()

    def wait() -> None:
        with turn(NAME, on_wait):
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
        with turn(NAME, refuse):
            assert LOCK.read_text() == str(os.getpid())
    hold().communicate("")  # another process gets it, too


def test_a_turn_is_given_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), turn(NAME, refuse):
        raise ZeroDivisionError
    with turn(NAME, refuse):
        pass


def test_another_gpu_is_another_turn(holder: subprocess.Popen[str]) -> None:
    with turn(f"{NAME}-other", refuse):
        assert holder.poll() is None


def test_the_name_of_a_process_that_was_killed_is_not_told_again(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with turn(NAME, refuse):
        assert LOCK.read_text() != str(holder.pid)
    next_one = hold()
    told: list[str] = []

    def let_go(message: str) -> None:
        told.append(message)
        next_one.communicate("")

    with turn(NAME, let_go):
        assert told == [f"waiting for GPU {NAME}: process {next_one.pid} uses it"]


def test_a_waiting_process_that_is_interrupted_leaves_the_turn_alone(holder: subprocess.Popen[str]) -> None:
    code = HOLD.replace("print)", "lambda said: print(said, flush=True))")
    other = subprocess.Popen([sys.executable, "-c", code, NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout
    assert f"process {holder.pid} uses it" in other.stdout.readline()
    other.terminate()
    assert other.communicate()[0] == ""
    assert holder.poll() is None
    holder.communicate("")
    with turn(NAME, refuse):
        pass


def test_without_a_gpu_there_is_nothing_to_wait_for() -> None:
    before = set(TURNS.glob("enginery-*.lock"))
    with reserved(None, 1 << 40, refuse):
        assert set(TURNS.glob("enginery-*.lock")) <= before


@without_gpu
def test_no_gpu_is_listed() -> None:
    assert gpus() == ()


@without_gpu
@pytest.mark.parametrize(("arguments", "out"), [
    ([], "No NVIDIA GPU here: TensorRT-RTX builds without one, runtime tensorrt needs one.\n"), (["--json"], "[]\n"),
])
def test_the_command_on_a_machine_without_a_gpu(tmp_path: Path, arguments: list[str], out: str) -> None:
    command = [sys.executable, "-m", "enginery", "gpus", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, out, "")
    if arguments:
        assert json.loads(result.stdout) == []
