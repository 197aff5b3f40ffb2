"""Prefect's server: wrong ones, one that dies or hangs in the middle of a run, our own, and its
page on any port.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Checkout, _wait

RUN = [sys.executable, "-m", "enginery", "build", "--target", "rtx-ada", "--precision", "fp16"]
BUILT = "Completed build yolov8n-shapes fp16 for rtx-ada"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_home(folder: Path, *command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`enginery server` (or another command) on a free port with a home of its own; the process and
    its URL.
    """
    port = free_port()
    environment = {**os.environ, "PREFECT_HOME": str(folder)}
    line = [sys.executable, "-m", *(command or ("enginery", "server")), "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(line, env=environment, stdout=log, stderr=log, text=True)
    try:
        _wait(f"http://127.0.0.1:{port}/api/health", 240)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def stale(checkout: Checkout, level: int) -> None:
    checkout.change(lambda params: params["targets"]["rtx-ada"].update(optimization_level=level))


def started(checkout: Checkout, url: str, command: list[str] = RUN) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["env", "--default-signal=INT", *command],
        cwd=checkout.root,
        text=True,
        env=checkout.environment(PREFECT_API_URL=url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def until(run: subprocess.Popen[str], words: str) -> str:
    """What a run says up to these words."""
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


def ends_by_itself(run: subprocess.Popen[str], last_step: str) -> str:
    """All that a run says after its server is gone; it must end within ten seconds of its last
    step.
    """
    said = until(run, last_step)
    ended = time.monotonic()
    rest, _ = run.communicate(timeout=60)
    assert time.monotonic() - ended < 10, said + rest
    assert len(said + rest) < 3000
    assert "Traceback" not in said + rest
    [warning] = [line for line in rest.splitlines() if "any more" in line]
    assert re.match(
        r"Warning Prefect's server at http://127.0.0.1:\d+/api does not answer any more: ", warning
    )
    return rest


def test_a_run_outlives_its_server(built: Checkout, tmp_path: Path) -> None:
    with own_home(tmp_path) as (server, url):
        stale(built, 1)
        run = started(built, f"{url}/api")
        until(run, "Completed fingerprint")
        server.send_signal(signal.SIGSTOP)  # it takes connections, and never answers
        rest = ends_by_itself(run, "Completed register yolov8n-shapes fp16 for rtx-ada")
        assert run.returncode == 0
        assert rest.index("any more") < rest.index("Registered engines") < rest.index(" Completed")
        server.send_signal(signal.SIGCONT)
        _wait(f"{url}/api/health", 120)

        stale(built, 2)
        built.change(lambda params: params["validation"]["rms_relative"].update(fp16=0.0))
        run = started(built, f"{url}/api")
        until(run, "Completed fingerprint")
        server.kill()
        rest = ends_by_itself(run, "Failed    register yolov8n-shapes fp16 for rtx-ada")
        assert run.returncode == 1
        lines = rest.splitlines()
        assert lines[-1].startswith("1 Failed") or ", 1 Failed" in lines[-1]
        assert "raw outputs differ" in lines[-4]


def test_a_run_that_has_lost_its_server_can_be_interrupted(built: Checkout, tmp_path: Path) -> None:
    with own_home(tmp_path) as (server, url):
        stale(built, 1)
        run = started(built, f"{url}/api")
        until(run, "Completed fingerprint")
        server.kill()
        run.send_signal(signal.SIGINT)
        rest, _ = run.communicate(timeout=20)
        assert run.returncode == 130, rest
        assert "interrupted; the next run goes on from here" in rest
        assert "Traceback" not in rest


def test_a_url_without_api_names_the_right_one(built: Checkout) -> None:
    wrong = built.server.removesuffix("/api")
    result = built.run("enginery", "build", PREFECT_API_URL=wrong)
    [line] = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (1, "")
    assert line.startswith(f"error: Prefect's server at {wrong} is no Prefect API: ")
    assert line.endswith(f"Set PREFECT_API_URL={built.server}")


def test_another_web_server_is_one_line(built: Checkout) -> None:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}/api"
        result = built.run("enginery", "build", PREFECT_API_URL=url)
        other.shutdown()
    assert (result.returncode, result.stderr) == (
        1,
        f"error: Prefect's server at {url} is no Prefect API: it answers 404 to /health. "
        "Correct PREFECT_API_URL; it looks like http://127.0.0.1:4200/api\n",
    )


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_our_own_server_ends_with_the_run(built: Checkout, sign: signal.Signals) -> None:
    run = started(built, "")
    end = time.monotonic() + 240
    while not (servers := servers_of(run)) and time.monotonic() < end:
        time.sleep(0.1)
    assert servers
    if sign is not signal.SIGKILL:  # that one while the server is starting
        until(run, "Completed fingerprint")
    processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    run.send_signal(sign)
    rest, _ = run.communicate(timeout=30)
    assert "Traceback" not in rest
    assert psutil.wait_procs(processes, 15)[1] == []


def servers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(run.pid).children(recursive=True)
    return [
        child
        for child in children
        if "enginery.orchestration.own_server" in " ".join(child.cmdline())
    ]


def test_a_home_that_cannot_be_written_is_one_line(built: Checkout, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = built.run(
        "enginery", "build", PREFECT_API_URL="", PREFECT_HOME=str(tmp_path / "file" / "home")
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    line = result.stderr.splitlines()[-1]  # Prefect itself warns before
    assert line.startswith("error: Prefect's own server did not start: ")
    assert "PREFECT_HOME must be a folder that can be written" in line


def test_the_ui_asks_the_port_that_it_came_from(tmp_path: Path) -> None:
    with own_home(tmp_path) as (_, url):
        assert httpx.get(f"{url}/ui-settings").json()["api_url"] == "/api"
        said = (tmp_path / "server.log").read_text()
        assert f"Prefect's UI: {url}" in said
        assert f"export PREFECT_API_URL={url}/api" in said
        settings = httpx.get(f"{url}/api/admin/settings").json()
        assert settings["server"]["analytics_enabled"] is False
        port = url.rsplit(":", 1)[1]
        again = subprocess.run(
            [sys.executable, "-m", "enginery", "server", "--port", port],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == (
            f"error: 127.0.0.1 port {port} cannot be used: Address already in use. "
            "Give another --port, or end what uses it\n"
        )


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser is here")
def test_the_page_on_another_port_is_not_blank(tmp_path: Path) -> None:
    browser = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
    ]
    page, end = "", time.monotonic() + 90
    with own_home(tmp_path) as (_, url):
        while (
            "get started" not in page and time.monotonic() < end
        ):  # the browser gives a slow machine little time
            command = [
                *browser,
                f"--user-data-dir={tmp_path}",
                "--virtual-time-budget=20000",
                "--dump-dom",
                f"{url}/runs",
            ]
            page = subprocess.run(
                command, capture_output=True, text=True, timeout=120, check=False
            ).stdout
    assert "Run a task or flow to get started" in page
