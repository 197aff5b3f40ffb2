"""Prefect's server: the one that PREFECT_API_URL or Prefect's profile names, or one of our own.

A run needs the server to begin, and then no more: once it stops answering, the steps go on, every
request of the flow fails at once, and the run ends with its own verdict.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

import httpx
from prefect.context import SyncClientContext, refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from enginery.errors import EngineryError, ServerError, ServerLostError
from enginery.orchestration.health import HealthCheck, share_certificates

_BEGIN_S = 10  # how long a server may take to answer before a run
_LOST_S = 4  # and in the middle of one, in which it answered before: it may be starting anew
_EXAMPLE = "http://127.0.0.1:4200/api"
_OWN = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
}
_NO_SCHEDULES = {"PREFECT__SERVER_EPHEMERAL": "1"}
_ERROR = re.compile(r"[\w.]+Error: ")  # a traceback's last line
_START_CURE = "start one (`enginery server`) and set PREFECT_API_URL"

share_certificates()


class Connection:
    """The server of this process; `lost` from the moment on at which it did not answer any more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lost = False
        self._health = HealthCheck(url)

    def problem(self, limit_s: float) -> str:
        """Why no Prefect API answers within some seconds; empty if it does."""
        return self._health.problem(limit_s)

    def before_request(self, request: httpx.Request) -> None:
        """Let a request of the flow go out only to a server that answers.

        Prefect itself would try for minutes.

        Raises:
            ServerLostError: the server does not answer any more.
        """
        self.lost = self.lost or not self._answers()
        if self.lost:
            what = f"Prefect's server at {self.url} does not answer any more"
            raise ServerLostError(what, "Start it again, then run again")

    def _answers(self) -> bool:
        end = time.monotonic() + _LOST_S
        while self.problem(max(1.0, end - time.monotonic())):
            if time.monotonic() > end:
                return False
            time.sleep(0.3)
        return True

    def send_the_rest(self) -> None:
        """Wait until what happened has been told to the server, for as long as that answers."""
        while not self.lost:
            drained = EventsWorker.drain_all(timeout=2)
            if isinstance(drained, tuple) and not drained[1]:
                return
            self.lost = not self._answers()


@contextmanager
def prefect_server(schedules: bool = False) -> Iterator[Connection]:
    """The server that is named, or one that ends with this block and with this process.

    Ours starts runs by a schedule only if it is told to: that takes services which one run does not
    need.

    Raises:
        ServerError: no Prefect API answers where one is named, or ours does not start.
    """
    url = PREFECT_API_URL.value()
    if not url:
        with _own_server({} if schedules else _NO_SCHEDULES) as connection:
            yield connection
        return
    check_server()
    yield Connection(url.rstrip("/"))


@contextmanager
def requests_through(connection: Connection) -> Iterator[None]:
    """The requests of a flow that runs in this block ask first whether the server still answers.

    It sends no heartbeats, unless a setting asks for them: whoever waits for it sees its end, and
    Prefect would wait up to a second for the thread that sends them.

    Raises:
        ServerError: the server is one of another major version, or does not answer.
    """
    hooks = {"event_hooks": {"request": [connection.before_request]}}
    with ExitStack() as stack:
        if "heartbeat_frequency" not in get_current_settings().flows.model_fields_set:
            stack.enter_context(temporary_settings({"flows.heartbeat_frequency": None}))
        try:
            stack.enter_context(SyncClientContext(httpx_settings=hooks))
        except RuntimeError as error:
            raise ServerError(
                f"Prefect's server at {connection.url}: {error}",
                "Run the Prefect of this environment",
            ) from None
        yield


def check_server() -> None:
    """Make sure that a server which is named answers.

    Raises:
        ServerError: it does not, or what answers is no Prefect API.
    """
    url = (PREFECT_API_URL.value() or "").rstrip("/")
    problem = url and HealthCheck(url).problem(_BEGIN_S)
    if not problem:
        return
    if not url.endswith("/api") and not HealthCheck(f"{url}/api").problem(_BEGIN_S):
        cure = f"Set PREFECT_API_URL={url}/api"
    elif problem.startswith("does not answer"):
        cure = "Start it (`enginery server`), or correct PREFECT_API_URL"
    else:
        cure = f"Correct PREFECT_API_URL; it looks like {_EXAMPLE}"
    raise ServerError(f"Prefect's server at {url} {problem}", cure)


@contextmanager
def _own_server(variables: Mapping[str, str]) -> Iterator[Connection]:
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    command = [sys.executable, "-m", "enginery.orchestration.own_server"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command,
            env={**os.environ, **settings, **_OWN, **variables},
            text=True,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        try:
            connection = Connection(f"http://127.0.0.1:{_port(process, said)}/api")
            _await_start(connection, process, said)
            with _named(connection.url):
                yield connection
        finally:
            _stop(process)


def _port(process: subprocess.Popen[str], said: IO[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise _start_error(said)
    return int(line)


def _await_start(connection: Connection, process: subprocess.Popen[str], said: IO[str]) -> None:
    end = time.monotonic() + PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    while connection.problem(2):
        if process.poll() is not None:
            raise _start_error(said)
        if time.monotonic() > end:
            raise ServerError(
                "Prefect's own server did not start in time", f"Run again, or {_START_CURE}"
            )
        time.sleep(0.1)


def _start_error(said: IO[str]) -> EngineryError:
    said.seek(0)
    lines = said.read().strip().splitlines() or ["it said nothing"]
    cause = next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1])
    cure = f"PREFECT_HOME must be a folder that can be written; or {_START_CURE}"
    return ServerError(f"Prefect's own server did not start: {cause}", cure)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Name a server to all of Prefect in this process and in those that it starts."""
    before = os.environ.pop("PREFECT_API_URL", "")
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()
    try:
        yield
    finally:
        os.environ["PREFECT_API_URL"] = before  # Prefect takes an empty one for none
        refresh_global_settings_context()


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(8)
    process.kill()
    process.wait()
