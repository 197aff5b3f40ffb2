"""A child process and what becomes of it: real processes of a few lines, in place of the child
program.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import (
    BuildError,
    ChildCrashedError,
    ChildTimeoutError,
    MissingInterpreterError,
    ToolchainError,
)
from enginery.system import processes
from enginery.toolchain import process
from enginery.toolchain.process import Child

REQUEST = {"do": "build", "runtime": "tensorrt", "plan": Path("a.plan"), "onnx": "g.onnx"}
PYTHON = Path(sys.executable)


def test_constants() -> None:
    assert (process._KEPT_MESSAGES, process._KEPT_NOISE) == (6, 2)
    assert {
        "log": {"severity", "message"},
        "progress": {"phase", "step", "steps"},
        "result": {"event"},
        "error": {"kind", "message"},
        "ready": {"inputs", "outputs", "gpu"},
        "ran": {"files", "milliseconds"},
        "refused": {"kind", "message"},
    } == process._FIELDS
    assert process.PROGRAM.name == "child"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make these lines the child program; it knows its request as `request`, and `say` writes an
    event.
    """

    def make(*lines: str) -> None:
        head = [
            "import json, os, signal, subprocess, sys, time",
            "request = json.load(sys.stdin)",
            "def say(event, **fields): print(json.dumps({'event': event, **fields}), flush=True)",
        ]
        (tmp_path / "program.py").write_text("\n".join([*head, *lines]))
        monkeypatch.setattr(process, "PROGRAM", tmp_path / "program.py")

    return make


def events(child_events: list[Any]) -> Any:
    return lambda event: child_events.append(dict(event))


def test_a_result_with_events_before_it(program: Any) -> None:
    program(
        "say('log', severity='debug', message='one')",
        "print('noise of a library')",
        "say('log', severity='warning', message='two')",
        "say('progress', phase='p', step=1, steps=2)",
        "say('log', severity='warning', message='three')",
        "say('result', plan_bytes=4, request=request)",
    )
    seen: list[Any] = []
    child = Child(PYTHON, REQUEST, events(seen))
    assert child.result(30) == {"plan_bytes": 4, "request": {**REQUEST, "plan": "a.plan"}}
    assert seen == [
        {"event": "log", "severity": "debug", "message": "one"},
        {"event": "log", "severity": "warning", "message": "two"},
        {"event": "progress", "phase": "p", "step": 1, "steps": 2},
        {"event": "log", "severity": "warning", "message": "three"},
    ]
    assert child.warnings == ["two", "three"]
    assert list(child.last) == ["one", "noise of a library", "two", "three"]


def test_an_error_is_what_its_kind_means(program: Any) -> None:
    program("say('error', kind='parse', message='no such op')", "sys.exit(1)")
    with pytest.raises(BuildError) as error:
        Child(PYTHON, REQUEST, print).result(30)
    assert str(error.value) == "tensorrt cannot parse g.onnx: no such op. The graph must be changed"


def test_the_last_words_of_a_child_without_a_result(program: Any) -> None:
    program(
        "for number in range(9): say('log', severity='debug', message=f'm{number}')",
        "sys.stderr.write('a\\n\\nb \\n\\n')",
        "sys.stderr.flush()",
        "os._exit(7)",
    )
    with pytest.raises(ChildCrashedError) as error:
        Child(PYTHON, REQUEST, lambda event: None).result(30)
    said = "m4 | m5 | m6 | m7 | m8 | b"
    assert str(error.value) == (
        f"{PYTHON}: build with tensorrt: the child ended with exit code 7 without a result. Nothing else is lost; run again. "
        f"Its last words: {said}"
    )


def test_a_child_that_dies_at_once_and_says_bytes(
    program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text(
        "import os, sys; sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush(); os.kill(os.getpid(), 6)"
    )
    monkeypatch.setattr(process, "PROGRAM", tmp_path / "dies.py")
    with pytest.raises(ChildCrashedError, match="was killed by SIGABRT without a result"):
        Child(PYTHON, {**REQUEST, "more": "x" * 1_000_000}, print).result(30)


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "1",
        "text",
        '{"event": "log", "message": "no severity"}',
        '{"event": "other"}',
        "{}",
        '{"event": "progress", "phase": "p", "step": 1}',
        '{"event": "error", "kind": "parse"}',
        '{"event": ["log"]}',
        "null",
        "",
    ],
)
def test_lines_that_are_no_events(line: str) -> None:
    assert process.event_of(line) is None


@pytest.mark.parametrize(
    "event",
    [
        {"event": "result"},
        {"event": "log", "severity": "s", "message": "m", "more": 1},
        {"event": "error", "kind": "k", "message": "m"},
        {"event": "progress", "phase": "p", "step": 1, "steps": 2},
    ],
)
def test_lines_that_are_events(event: dict[str, Any]) -> None:
    assert process.event_of(json.dumps(event) + "\n") == event


def alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def gone(pid: int, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


SLEEPS = (
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL)",
    "say('log', severity='debug', message=f'{os.getpid()} {inner.pid}')",
    "time.sleep(60)",
)


def test_a_child_is_stopped_with_all_that_it_started_at_its_time_limit(program: Any) -> None:
    program(*SLEEPS)
    child = Child(PYTHON, REQUEST, lambda event: None)
    began = time.monotonic()
    with pytest.raises(ChildTimeoutError) as error:
        child.result(1.5)
    assert time.monotonic() - began < 30
    assert f"{PYTHON}: build with tensorrt was stopped at its time limit of 1.5 s" in str(
        error.value
    )
    if child.last:  # a slow machine may not have come so far
        assert all(gone(int(pid)) for pid in child.last[0].split())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_child_is_stopped_when_its_listener_is(program: Any, error: type[BaseException]) -> None:
    program(*SLEEPS)
    pids: list[int] = []

    def stop(event: Any) -> None:
        pids.extend(map(int, event["message"].split()))
        raise error

    with pytest.raises(error):
        Child(PYTHON, REQUEST, stop).result(60)
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_time_limit_ends_with_the_child(program: Any) -> None:
    program("say('result')")
    before = threading.active_count()
    assert Child(PYTHON, REQUEST, print).result(1000) == {}
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [(None, ("7", None)), ("GPU-1", ("GPU-1", "PCI_BUS_ID")), ("0", ("0", "PCI_BUS_ID"))],
)
def test_a_child_sees_one_gpu(
    program: Any, monkeypatch: pytest.MonkeyPatch, gpu: str | None, expected: Any
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    program(
        "say('result', found=[os.environ.get(key) for key in ('CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER')], session=os.getsid(0))"
    )
    found = Child(PYTHON, {**REQUEST, "gpu": gpu}, print).result(30)
    assert tuple(found["found"]) == expected
    assert found["session"] != os.getsid(0)


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    cure = "Correct its path under toolchains in params.yaml, or make the environment"
    (tmp_path / "file").write_text("")
    for path, kind, why in (
        (tmp_path / "none", MissingInterpreterError, "No such file or directory"),
        (tmp_path / "file/python", MissingInterpreterError, "Not a directory"),
        (tmp_path / "file", ToolchainError, "Permission denied"),
    ):
        with pytest.raises(ToolchainError) as error:
            Child(path, REQUEST, print).result(5)
        assert type(error.value) is kind
        assert str(error.value) == f"toolchain interpreter {path} cannot be started: {why}. {cure}"
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    with pytest.raises(ToolchainError) as error:
        Child(tmp_path / "broken", REQUEST, print).result(5)
    assert type(error.value) is ToolchainError  # it is there, and leads nowhere


# Ends


def started(code: str) -> subprocess.Popen[str]:
    found = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert found.stdout is not None
    assert found.stdout.readline() == "ready\n"
    return found


def test_a_group_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); print('ready', flush=True); time.sleep(60)"
    child = started(code)
    processes.stop_group(child)
    assert child.returncode == 5
    processes.stop_group(child)  # it has ended already


def test_a_group_that_does_not_listen_is_made_to_end() -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    child = started(code)
    began = time.monotonic()
    processes.stop_group(child, 0.2)
    assert (child.returncode, time.monotonic() - began < 9) == (-signal.SIGKILL, True)
    other = started(code)
    processes.stop_group(other, grace_s=0)
    assert other.returncode == -signal.SIGKILL
