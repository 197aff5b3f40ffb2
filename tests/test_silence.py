"""Nothing is sent anywhere that the user did not name: no library of ours reports, asks for
versions or loads fonts.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from enginery.system.processes import stop_group
from tests.conftest import Checkout, watched

pytestmark = pytest.mark.skipif(
    not shutil.which("gcc"), reason="no gcc here to make the watch with"
)
ASK = "import socket; socket.create_connection(('example.org', 80), timeout=5)"


def test_the_watch_sees_who_leaves(tmp_path: Path) -> None:
    log = tmp_path / "connections.txt"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}])"
    result = subprocess.run(
        [sys.executable, "-c", child], env=watched(log), capture_output=True, text=True, check=False
    )
    assert "ConnectionRefusedError" in result.stderr
    said = log.read_text()
    assert ": asks where it finds example.org" in said
    assert ": sends to 192.0.2.1" in said


def test_a_whole_build_stays_on_this_machine(_built: Checkout) -> None:
    """The one that the other tests start from: every step, Prefect's client, DVC, TensorRT."""
    log = _built.root.parent / "connections.txt"
    assert not log.exists(), log.read_text()


def test_our_own_server_and_the_schedule_stay_on_this_machine(
    built: Checkout, tmp_path: Path
) -> None:
    variables = built.environment(
        PREFECT_API_URL="", PREFECT_HOME=str(tmp_path / "home"), **watched(tmp_path / "log.txt")
    )
    for name in ("CI", "GITHUB_ACTIONS", "DO_NOT_TRACK"):
        variables.pop(name, None)
    with (tmp_path / "serve.txt").open("w+") as said:
        serve = subprocess.Popen(
            [sys.executable, "-m", "enginery", "serve"],
            cwd=built.root,
            env=variables,
            stdout=said,
            stderr=said,
            text=True,
            start_new_session=True,
        )
        end = time.monotonic() + 300
        while "being served" not in (tmp_path / "serve.txt").read_text() and time.monotonic() < end:
            assert serve.poll() is None, (tmp_path / "serve.txt").read_text()
            time.sleep(0.3)
        assert "being served" in (tmp_path / "serve.txt").read_text()
        stop_group(serve)
    assert not (tmp_path / "log.txt").exists(), (tmp_path / "log.txt").read_text()
