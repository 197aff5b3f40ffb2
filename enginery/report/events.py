"""What a step says while it runs: log lines and progress, for a terminal or, as JSON lines, for the
flow that started it.

The flow sets ENGINERY_REPORT=json and reads the step's standard output; `dvc repro` leaves it unset
and a person reads along.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

VARIABLE = "ENGINERY_REPORT"


def error_line(message: str) -> tuple[int, str]:
    """An error as `emit` would say it, for another program to write: the
    descriptor and the line.
    """
    if os.environ.get(VARIABLE) == "json":
        return 1, json.dumps({"event": "error", "message": message})
    return 2, f"error: {message}"


def emit(event: Mapping[str, Any]) -> None:
    """Say one event; a terminal shows its message."""
    if os.environ.get(VARIABLE) == "json":
        print(json.dumps(event), flush=True)
    elif event["event"] == "progress":
        _show_progress(event)
    elif event["event"] in ("log", "error") and event.get("severity") != "debug":
        stream = sys.stderr if event["event"] == "error" else sys.stdout
        print(
            f"{'error: ' if event['event'] == 'error' else ''}{event['message']}",
            file=stream,
            flush=True,
        )


def log(message: str, severity: str = "info") -> None:
    """One line for the reader."""
    emit({"event": "log", "severity": severity, "message": message})


def progress(phase: str, step: int, steps: int) -> None:
    """`step` of `steps` of a phase is done."""
    emit({"event": "progress", "phase": phase, "step": step, "steps": steps})


def _show_progress(event: Mapping[str, Any]) -> None:
    if sys.stdout.isatty():
        end = "\n" if event["step"] >= event["steps"] else ""
        print(f"\r\033[K{event['phase']} {event['step']}/{event['steps']}", end=end, flush=True)
