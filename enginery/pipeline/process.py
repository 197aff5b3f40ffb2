"""A stage at work: what its process says, how it ended, and how to end it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from enginery.errors import BusyError, EngineryError
from enginery.project.paths import crash_log
from enginery.system.tracebacks import unsaid

OnEvent = Callable[[Mapping[str, Any]], None]
GRACE_S = 10  # between asking a stage to end and making it
_BUSY = ("is busy, it is being", "Unable to acquire lock")


class StageProcess:
    """A stage at work in a child of the worker."""

    def __init__(self, lines: IO[str], address: str) -> None:
        self._lines, self._address = lines, address
        self._number = 0  # of its process, which leads a group
        self.ended = threading.Event()

    def follow(self, on_event: OnEvent, stopping: Callable[[], bool]) -> str:
        """Pass on what the stage says, until it has ended; how DVC says it ended.

        Raises:
            BusyError, EngineryError: as `Pipeline.reproduce`.
        """
        end: Mapping[str, Any] = {}
        error, others = "", []
        for line in self._lines:
            event = _event(line)
            if event is None:
                others.append(line.strip())
            elif event["event"] == "process":
                self._number = event["number"]
                if stopping():
                    self.stop()
            elif event["event"] == "ended":
                end = event
            elif event["event"] == "error":
                error = event["message"]
            elif event["event"] != "started":
                on_event(event)
        if "outcome" in end:
            return str(end["outcome"])
        said = [line for line in others if line]
        raise _failure(self._address, error, str(end.get("error", "")), said)

    def drain(self) -> None:
        """Wait for the end of a stage that was told to end; make it, if it does not."""
        timer = threading.Timer(GRACE_S, self.kill)
        timer.start()
        with suppress(OSError, ValueError):
            for _ in self._lines:
                pass
        timer.cancel()
        self.kill()
        self._lines.close()

    def stop(self) -> None:
        """Ask the stage with all that it started to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Make it end."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._number:
            with suppress(ProcessLookupError):
                os.killpg(self._number, number)


def _failure(address: str, error: str, dvc_error: str, lines: list[str]) -> EngineryError:
    if error:
        return EngineryError(error)
    text = dvc_error or "; ".join(lines[-4:])
    if any(words in text for words in _BUSY):
        return BusyError(
            f"{address}: another run works on it", "Wait for it to end, then run again"
        )
    why = unsaid(lines, text, crash_log(address)) or text or "it said nothing"
    return EngineryError(f"{address} failed: {why}")


def _event(line: str) -> Mapping[str, Any] | None:
    with suppress(ValueError):
        value = json.loads(line)
        if isinstance(value, dict) and "event" in value:
            return value
    return None
