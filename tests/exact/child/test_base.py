"""The child program's ground: constants, events, the logger, refusals and whole files."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import (
    TACTIC,
    base,
    building,
    inspecting,
    main_,
    probing,
    refused,
    running,
)
from tests.recorder.building import ILogger


def test_constants() -> None:
    assert base.NO_RANGE == "Missing scale and zero-point for tensor"
    assert base.HARMLESS == (
        "myelinCache.h::deserializeFromBuffer",
        "The timing cache will not be used",
    )
    assert base.SKIPPED == ("Skipping tactic", "insufficient memory")
    assert base.NO_ROOM == "insufficient to use tactic"
    assert building.MEANINGS == {
        "out of memory": "memory",
        "outofmemory": "memory",
        "insufficient workspace": "memory",
        "unable to load library": "library",
    }
    assert (running.WARM_UP_S, running.TRIES, running.CapturedGraph.RELAXED) == (1, 3, 2)
    assert (inspecting.WARM_UP_RUNS, inspecting.RUNS, main_.PR_SET_PDEATHSIG) == (20, 50, 1)
    assert main_.WORK == {
        "probe": "probing",
        "build": "building",
        "refit": "refitting",
        "measure": "running",
        "inspect": "inspecting",
        "serve": "serving",
    }
    assert probing.PACKAGES == {
        "tensorrt_rtx": ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
        "tensorrt": ("tensorrt", "tensorrt_cu13", "tensorrt_cu12"),
    }


def test_events_go_to_what_was_standard_output_and_prints_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, calls = io.StringIO(), list[Any]()
    flushed: list[str] = []
    stream.flush = lambda: flushed.append(stream.getvalue())  # type: ignore[method-assign]
    fake = SimpleNamespace(
        dup=lambda number: 100 + number,
        dup2=lambda *numbers: calls.append(numbers),
        fdopen=lambda *given, **named: calls.append((given, named)) or stream,
    )
    monkeypatch.setattr(base, "os", fake)
    sender = base.Out()
    assert calls == [((101, "w"), {"encoding": "utf-8"}), (2, 1)]
    sender.send("log", severity="debug", message="ü")
    assert stream.getvalue() == '{"severity": "debug", "message": "\\u00fc", "event": "log"}\n'
    sender.send("result")
    assert flushed == [stream.getvalue().splitlines(True)[0], stream.getvalue()]


def test_a_module_that_cannot_be_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert base.load("json") is json
    with refused("toolchain", "cannot import no_such_module: No module named 'no_such_module'"):
        base.load("no_such_module")

    def fail(name: str) -> Any:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(base, "importlib", SimpleNamespace(import_module=fail))
    with refused(
        "toolchain", "cannot import tensorrt: libnvinfer.so.10: cannot open shared object file"
    ):
        base.load("tensorrt")


@pytest.mark.parametrize(
    ("severity", "message", "sent"),
    [
        (ILogger.INTERNAL_ERROR, "bad", "error"),
        (ILogger.ERROR, "bad", "error"),
        (ILogger.WARNING, "odd", "warning"),
        (ILogger.INFO, "so", "debug"),
        (ILogger.VERBOSE, "much", None),
        (ILogger.ERROR, "a myelinCache.h::deserializeFromBuffer b", "debug"),
        (ILogger.ERROR, "The timing cache will not be used!", "debug"),
        (ILogger.WARNING, TACTIC, "debug"),
        (ILogger.VERBOSE, TACTIC, "debug"),
        (ILogger.ERROR, TACTIC, "error"),
        (ILogger.WARNING, "Skipping tactic 3", "warning"),
        (ILogger.WARNING, "insufficient memory", "warning"),
        (ILogger.WARNING, "GPU memory is insufficient to use tactic 0x1", "debug"),
        (ILogger.WARNING, "Missing scale and zero-point for tensor x", "debug"),
        (ILogger.WARNING, "Oh: Missing scale and zero-point for tensor x", "warning"),
        (ILogger.INFO, "Missing scale and zero-point for tensor x", "debug"),
    ],
)
def test_what_tensorrt_says_goes_on(
    out: Out, severity: int, message: str, sent: str | None
) -> None:
    logger = base.make_logger(tensorrt(), out)
    logger.log(severity, message)
    assert out.sent == (
        [] if sent is None else [{"event": "log", "severity": sent, "message": message}]
    )
    assert logger.errors == ([message] if sent == "error" else [])
    assert logger.skipped == (1 if message == TACTIC and sent == "debug" else 0)
    assert logger._made


def test_the_last_three_errors_are_the_reason(out: Out) -> None:
    logger = base.make_logger(tensorrt(), out)
    assert logger.reason() == ""
    for message in ("one", "two", "three", "four"):
        logger.log(ILogger.ERROR, message)
    assert logger.reason() == "two; three; four"
    logger.log(ILogger.WARNING, TACTIC)
    logger.log(ILogger.WARNING, TACTIC)
    assert logger.skipped == 2


def test_a_plan_is_read_only_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_bytes(b"\xff\x00plan")
    digest = hashlib.sha256(b"\xff\x00plan").hexdigest()
    assert (
        base.read_plan({"plan": str(tmp_path / "a.plan"), "plan_sha256": digest}) == b"\xff\x00plan"
    )
    with refused("integrity", "its digest is not the one recorded"):
        base.read_plan({"plan": str(tmp_path / "a.plan"), "plan_sha256": digest[::-1]})


def test_files_are_on_the_disk_before_they_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = os.replace, list[Any]()

    def fsync(number: int) -> None:
        path = Path(f"/proc/self/fd/{number}").readlink()
        calls.append(("sync", path.read_bytes() if path.is_file() else "folder"))

    def move(source: str, target: str) -> None:
        assert Path(source).parent == tmp_path
        assert str(os.getpid()) in Path(source).name
        calls.append(("move", Path(source).read_bytes(), target))
        replace(source, target)

    monkeypatch.setattr(base.os, "fsync", fsync)
    monkeypatch.setattr(base.os, "replace", move)
    base.write(str(tmp_path / "a"), b"\xffdata")
    assert (tmp_path / "a").read_bytes() == b"\xffdata"
    assert calls == [("sync", b"\xffdata")]
    base.write_whole(str(tmp_path / "b"), b"more")
    assert calls[1:3] == [("sync", b"more"), ("move", b"more", f"{tmp_path}/b")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "b").read_bytes() == b"more"
