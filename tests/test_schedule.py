"""The real change: a toolchain's TensorRT-RTX is upgraded in place, and the scheduled run rebuilds
its engines by itself, and no others.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from enginery.system.processes import stop_group
from tests.conftest import Checkout
from tests.test_flow import build, counted, task_states

ADA = {f"build yolov8n-shapes {precision} for rtx-ada" for precision in ("fp16", "fp32")}
AMPERE = {name.replace("ada", "ampere") for name in ADA}


def install(python: Path, version: str) -> None:
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        f"tensorrt-rtx-cu13=={version}",
    ]
    subprocess.run(command, check=True)


def ended_run(server: str, after: datetime, scheduled: bool) -> dict[str, Any]:
    """The first finished run that began after a moment, by the schedule or without it."""
    end = time.monotonic() + 180
    runs = {
        "deployment_id": {"is_null_": not scheduled},
        "start_time": {"after_": after.isoformat()},
        "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}},
    }
    while time.monotonic() < end:
        found: list[dict[str, Any]] = httpx.post(
            f"{server}/flow_runs/filter", json={"flow_runs": runs}
        ).json()
        if found:
            return min(found, key=lambda run: run["start_time"])
        time.sleep(1)
    raise AssertionError("no such run ended within three minutes")


def wait_for_the_first_half_of_a_minute() -> None:
    """The schedule begins its runs at full minutes, and an upgrade takes some seconds."""
    while time.time() % 60 > 30:
        time.sleep(1)


def test_an_upgraded_toolchain_is_noticed_on_schedule(fresh: Checkout, tmp_path: Path) -> None:
    venv.create(tmp_path / "rtx", with_pip=True)
    python = tmp_path / "rtx/bin/python"
    install(python, "1.6.1.120")

    def use_toolchain(params: dict[str, Any]) -> None:
        params["matrix"]["precisions"], params["int8"] = (
            ["fp32", "fp16"],
            {},
        )  # TensorRT-RTX 1.6.1 refuses the INT8 graph
        params["toolchains"] = {"rtx": {"python": str(python)}}
        params["targets"]["rtx-ada"]["toolchain"] = "rtx"

    fresh.change(use_toolchain)
    build(fresh)
    assert "1.6.1.120" in fresh.run("enginery", "show", "rtx-ada/fp16").stdout

    install(python, "1.7.1.116")
    status = fresh.run("enginery", "status").stdout
    assert "build yolov8n-shapes fp16 for rtx-ada: runtime_version 1.6.1.120 -> 1.7.1.116" in status
    command = [sys.executable, "-m", "enginery", "serve", "--cron", "* * * * *"]
    began = datetime.now(UTC)
    with (tmp_path / "serve.log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=fresh.root,
            env=fresh.environment(),
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            first = ended_run(fresh.server, began, scheduled=False)  # at its start
            wait_for_the_first_half_of_a_minute()
            install(python, "1.6.1.120")
            second = ended_run(fresh.server, datetime.now(UTC), scheduled=True)
        finally:
            stop_group(server)
    for run in (first, second):
        assert run["state"]["type"] == "COMPLETED", (tmp_path / "serve.log").read_text()
    states = task_states(fresh, first["id"])
    assert {name for name in counted(states, "Completed") if name.startswith("build")} == ADA
    assert counted(states, "Cached") >= AMPERE
    states = task_states(fresh, second["id"])
    assert counted(states, "Restored") == ADA
    assert counted(states, "Cached") >= AMPERE


@pytest.mark.parametrize("command", ["build", "serve"])
def test_a_server_that_does_not_answer_is_one_line(built: Checkout, command: str) -> None:
    for url in ("http://127.0.0.1:9/api", "nowhere"):
        result = built.run("enginery", command, PREFECT_API_URL=url)
        assert (result.returncode, result.stdout) == (1, "")
        [line] = result.stderr.splitlines()
        assert line.startswith(f"error: Prefect's server at {url} does not answer: ")


def test_a_schedule_that_is_none_is_one_line(built: Checkout) -> None:
    result = built.run("enginery", "serve", "--cron", "99 * * * *")
    assert (result.returncode, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: --cron '99 * * * *' is no schedule. Give minute, hour, ")
