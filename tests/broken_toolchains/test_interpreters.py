"""Interpreters that print garbage, exit, sleep or do not start."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from enginery.errors import (
    ChildCrashedError,
    ChildTimeoutError,
    MissingInterpreterError,
    ToolchainError,
)
from enginery.toolchain.client import build, probe
from enginery.toolchain.process import Child
from enginery.toolchain.requests import BuildRequest
from tests.broken_toolchains.common import interpreter, one_line
from tests.test_toolchain import silent


@pytest.mark.parametrize("says", ["garbage", r"Welcome to \377\376", '{"event": ', "\\033[31mred"])
def test_an_interpreter_that_prints_garbage(
    request_: BuildRequest, tmp_path: Path, says: str
) -> None:
    python = interpreter(tmp_path, f"printf '{says}\\n'")
    for ask in (lambda: probe(python, "tensorrt"), lambda: build(python, request_, silent, 60)):
        with pytest.raises(ChildCrashedError) as error:
            ask()
        text = one_line(error, ChildCrashedError)
        assert "with tensorrt: the child ended with exit code 0 without a result" in text
        assert "Its last words: " in text


@pytest.mark.parametrize("says", ["3", "null", "[]", '"hello"', '{"a": 1}', '{"event": "log"}'])
def test_an_interpreter_that_prints_json_of_its_own(
    request_: BuildRequest, tmp_path: Path, says: str
) -> None:
    with pytest.raises(ChildCrashedError, match="without a result"):
        build(interpreter(tmp_path, f"printf '%s\\n' '{says}'"), request_, silent, 60)


def test_what_an_interpreter_prints_before_its_work_does_no_harm(tmp_path: Path) -> None:
    python = interpreter(
        tmp_path,
        "echo Activating the environment",
        "echo and this >&2",
        f'exec "{sys.executable}" "$@"',
    )
    assert probe(python, "tensorrt_rtx").version == "1.7.1.116"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["exit 0"], "ended with exit code 0"),
        (["echo no such thing >&2", "exit 3"], "ended with exit code 3"),
        (["kill -ABRT $$"], "was killed by SIGABRT"),
        (["kill -KILL $$"], "was killed by SIGKILL (often a sign of too little memory)"),
    ],
)
def test_an_interpreter_that_exits_at_once(
    request_: BuildRequest, tmp_path: Path, lines: list[str], words: str
) -> None:
    python = interpreter(tmp_path, *lines)
    big: Mapping[str, Any] = {
        "do": "probe",
        "runtime": "tensorrt",
        "gpu": None,
        "more": "x" * (1 << 20),
    }  # more than a pipe holds
    for ask in (
        lambda: build(python, request_, silent, 60),
        lambda: Child(python, big, silent).result(60),
    ):
        with pytest.raises(ChildCrashedError) as error:
            ask()
        text = one_line(error, ChildCrashedError)
        assert words in text
        assert ("no such thing" in text) == (len(lines) > 1)


def test_an_interpreter_that_sleeps_is_stopped_with_all_it_started(
    request_: BuildRequest, tmp_path: Path
) -> None:
    python = interpreter(
        tmp_path, "sleep 300 &", f'echo $! $$ > "{tmp_path}/pids"', "echo busy >&2", "sleep 300"
    )
    began = time.monotonic()
    with pytest.raises(ChildTimeoutError) as error:
        build(python, request_, silent, 0.5)
    assert 0.5 <= time.monotonic() - began < 20
    text = one_line(error, ChildTimeoutError)
    assert (
        "build with tensorrt was stopped at its time limit of 0.5 s. Raise time_limit_s of the target"
        in text
    )
    assert "Its last words: busy" in text
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert [
        process
        for process in psutil.wait_procs(left, 5)[1]
        if process.status() != psutil.STATUS_ZOMBIE
    ] == []


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0, "No such file or directory"),
        ("exit 0\n", 0o755, "Exec format error"),
        ("#!/bin/sh\n", 0o644, "Permission denied"),
        ("#!/nowhere/sh\n", 0o755, "No such file or directory"),
        ("", 0o755, "Exec format error"),
    ],
)
def test_an_interpreter_that_cannot_be_started(
    request_: BuildRequest, tmp_path: Path, content: str | None, mode: int, reason: str
) -> None:
    python = tmp_path / "python"
    if content is not None:
        python.write_text(content)
        python.chmod(mode)
    with pytest.raises(ToolchainError) as error:
        build(python, request_, silent, 60)
    text = one_line(error, MissingInterpreterError if content is None else ToolchainError)
    assert f"toolchain interpreter {python} cannot be started: {reason}" in text
    assert "Correct its path under toolchains in params.yaml" in text
