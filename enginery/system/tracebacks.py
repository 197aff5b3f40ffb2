"""Errors that nobody foresaw: one line with the cause for the reader, and the traceback in a file
that the line names.
"""

from __future__ import annotations

import faulthandler
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from enginery.system.processes import ending
from enginery.system.watchdog import STAND

_PACKAGES = {
    "PIL": "Pillow",
    "cv2": "OpenCV",
    "google": "protobuf",
    "numpy": "NumPy",
    "onnx": "ONNX",
    "onnxruntime": "ONNX Runtime",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "ultralytics": "Ultralytics",
}
_MEMORY = (
    "bad allocation",
    "bad_alloc",
    "can't allocate memory",
    "failed to allocate",
    "insufficient memory",
)
_LENGTH = 400
_TRACEBACK = "Traceback (most recent call last):"


@contextmanager
def crash_file(path: Path) -> Iterator[None]:
    """Inside, a crash in C++ leaves the traceback of every thread in a file, as the watchdog's
    signal does.

    A file that is still empty at the end is removed. Where none can be made, standard error takes
    its place.
    """
    file = _opened(path)
    place = file or sys.stderr
    faulthandler.enable(place)
    faulthandler.register(STAND, place)
    try:
        yield
    finally:
        faulthandler.disable()
        faulthandler.unregister(STAND)
        if file:
            file.close()
        with suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()


def explain(title: str, error: BaseException, path: Path) -> str:
    """One line on an error of any kind, whose traceback goes into the file.

    A full disk is said: then there is no file.
    """
    return f"{title}: {_cause(error)}{_where(error)}. {_written(error, path)}"


def unsaid(lines: Sequence[str], text: str, log: Path) -> str:
    """Why a step ended that could not say it itself: what killed it, or a traceback from before its
    work began.

    `lines` is all that was printed, `text` how DVC puts the end; empty if neither tells.
    """
    code = re.search(r"exited with (-?\d+)$", text)
    if code and int(code[1]) not in range(128):
        trace = f"; where it stood is in {log}" if log.is_file() and log.stat().st_size else ""
        return f"its process {ending(int(code[1]))}{trace}"
    if _TRACEBACK not in lines:
        return ""
    said = [line for line in lines[lines.index(_TRACEBACK) :] if not line.startswith("ERROR: ")]
    with suppress(OSError):  # no room: the line has the cause
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("\n".join(said), encoding="utf-8")
    return f"{said[-1]}. Its traceback is in {log}"


def _opened(path: Path) -> IO[str] | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError:
        return None


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())[:_LENGTH].rstrip(".")
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _MEMORY):
        return (
            f"out of memory{f' ({text})' if text else ''}. Close other programs or use smaller "
            "input sizes"
        )
    if isinstance(error, RecursionError):
        return "something that it reads is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    package = _PACKAGES.get(_package(error))
    name = type(error).__name__
    return f"{package} failed: {text or name}" if package else f"{name}: {text}" if text else name


def _package(error: BaseException) -> str:
    """The package that an error comes from: its type's, or of a built-in error, the one whose code
    raised it.
    """
    own = type(error).__module__.partition(".")[0]
    if own != "builtins":
        return own
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__", "")).partition(".")[0] if frames else ""


def _where(error: BaseException) -> str:
    """The last place in Enginery's own code or in the project's."""
    package, project = Path(__file__).resolve().parents[1], Path.cwd()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(package):
            return f" ({file.relative_to(package.parent)}, line {frame.lineno})"
        if file.is_relative_to(project) and "site-packages" not in file.parts:
            return f" ({file.relative_to(project)}, line {frame.lineno})"
    return ""


def _written(error: BaseException, path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(traceback.format_exception(error)), encoding="utf-8", errors="replace"
        )
    except OSError as refused:
        return f"Its traceback could not be written to {path}: {refused.strerror}"
    return f"Its traceback is in {path}"
