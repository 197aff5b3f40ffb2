"""What goes wrong in a step is one line, and its traceback a file."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from enginery.report.events import VARIABLE, error_line
from enginery.system.processes import ending
from enginery.system.tracebacks import explain, unsaid
from tests.steps.common import LOG, step


def test_any_error_is_one_line_and_its_traceback_a_file(checkout: Path) -> None:
    ended = step(checkout, "raise ValueError('two\\nlines.')")
    assert (ended.returncode, ended.stdout) == (1, "")
    [said] = ended.stderr.splitlines()
    assert said.startswith(
        "error: export m: ValueError: two lines (enginery/pipeline/step.py, line "
    ), said
    assert said.endswith(f"). Its traceback is in {LOG}")
    trace = (checkout / LOG).read_text()
    assert trace.startswith("Traceback (most recent call last):")
    assert "in work" in trace


def no_image() -> None:
    import cv2

    cv2.resize(np.zeros((0, 0)), (1, 1))


def no_session() -> None:
    import onnxruntime

    onnxruntime.InferenceSession(b"none")


def no_graph() -> None:
    import onnx

    onnx.checker.check_model(onnx.ModelProto())


def no_end() -> None:
    no_end()


def no_memory_in_torch() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.")


def nothing_said() -> None:
    raise ValueError


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (lambda: {}["x"], "KeyError: 'x'"),  # type: ignore[index]
        (no_image, "OpenCV failed: OpenCV("),
        (no_session, "ONNX Runtime failed: "),
        (no_graph, "ONNX failed: "),
        (lambda: np.zeros(1 << 55), "out of memory (Unable to allocate"),
        (no_memory_in_torch, "out of memory (DefaultCPUAllocator: "),
        (
            lambda: (_ for _ in ()).throw(MemoryError),
            "out of memory. Close other programs or use smaller input sizes. Its",
        ),
        (no_end, "something that it reads is nested too deeply. Its"),
        (lambda: Path("nowhere").read_text(), "nowhere: No such file or directory. Its"),
        (nothing_said, "ValueError. Its"),
    ],
)
def test_what_kind_of_error_it_was(tmp_path: Path, work: Callable[[], object], line: str) -> None:
    with pytest.raises(Exception) as raised:
        work()
    log = tmp_path / "logs/x.txt"
    said = explain("export m", raised.value, log)
    said = re.sub(r" \(tests/steps/test_errors\.py, line \d+\)", "", said)
    assert said.startswith(f"export m: {line}"), said
    assert said.endswith(f"Its traceback is in {log}")
    assert len(said.splitlines()) == 1
    assert log.is_file()


def test_an_error_in_our_own_code_names_the_place(checkout: Path) -> None:
    ended = step(checkout, "from enginery.system.files import dumps\ndumps(float('nan'))")
    assert "Out of range float values are not JSON compliant" in ended.stderr
    assert " (enginery/system/files.py, line " in ended.stderr


def test_a_step_that_ends_well_leaves_no_log(checkout: Path) -> None:
    step(checkout, "raise ValueError")
    assert (checkout / LOG).is_file()
    ended = step(checkout, "pass")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert not (checkout / LOG).exists()


def test_a_foreseen_error_needs_no_traceback(checkout: Path) -> None:
    ended = step(
        checkout, "from enginery.errors import ModelError\nraise ModelError('it is bad', 'Mend it')"
    )
    assert (ended.returncode, ended.stderr) == (1, "error: it is bad. Mend it\n")
    assert not (checkout / LOG).exists()


def test_no_room_for_the_traceback_is_said(checkout: Path) -> None:
    (checkout / "artifacts").write_text("no folder")
    ended = step(checkout, "raise ValueError('too bad')")
    [said] = ended.stderr.splitlines()
    assert said.startswith("error: export m: ValueError: too bad (")
    assert said.endswith(f"). Its traceback could not be written to {LOG}: Not a directory")
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\nraise ValueError('too bad')"
    (checkout / "artifacts").unlink()
    assert (
        f"Its traceback could not be written to {LOG}: File too large"
        in step(checkout, full).stderr
    )


def test_what_another_program_says_for_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert error_line("too long") == (2, "error: too long")
    monkeypatch.setenv(VARIABLE, "json")
    descriptor, line = error_line("too long")
    assert (descriptor, json.loads(line)) == (1, {"event": "error", "message": "too long"})


def test_a_crash_in_c_leaves_its_traceback(checkout: Path) -> None:
    ended = step(checkout, "import ctypes\nctypes.string_at(0)")
    assert ended.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in (checkout / LOG).read_text()
    dvc = "failed to reproduce 'export@m': failed to run: python -m tasks.export m, exited with -11"
    log = checkout / LOG
    assert (
        unsaid([f"ERROR: {dvc}"], dvc, log)
        == f"its process was killed by SIGSEGV; where it stood is in {log}"
    )


def test_what_goes_wrong_before_a_step_can_speak(tmp_path: Path) -> None:
    log = tmp_path / LOG
    lines = [
        "Running stage 'export@m':",
        "Traceback (most recent call last):",
        'File "x.py", line 1',
        "ImportError: no torch",
    ]
    text = "failed to run: python, exited with 1"
    assert (
        unsaid([*lines, f"ERROR: {text}"], text, log)
        == f"ImportError: no torch. Its traceback is in {log}"
    )
    assert log.read_text().splitlines() == lines[1:]
    log.write_text("")
    killed = "its process was killed by SIGKILL (often a sign of too little memory)"
    assert unsaid([], "failed to run: python, exited with 137", log) == killed
    assert unsaid(["ERROR: the disk is on fire"], "the disk is on fire", log) == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (128, "ended with exit code 128"),
        (255, "ended with exit code 255"),
        (-11, "was killed by SIGSEGV"),
        (139, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL (often a sign of too little memory)"),
    ],
)
def test_how_a_process_ended(code: int, words: str) -> None:
    assert ending(code) == words
