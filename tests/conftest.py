"""A checkout in a folder of its own (a space and a letter outside ASCII in its path), and one
Prefect server for all tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginery.pipeline.matrix import write_matrix
from enginery.project.load import load_spec

ROOT = Path(__file__).resolve().parents[1]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and so would start what the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
NEEDED = (
    "enginery",
    "tasks",
    "flows",
    "dvc.yaml",
    "params.yaml",
    "prefect.yaml",
    ".dvc/config",
    ".dvcignore",
    "data/demo",
)


@dataclass(frozen=True)
class Checkout:
    """A checkout to run commands in."""

    root: Path
    server: str

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a Python module with its arguments, as `python -m`."""
        line = [sys.executable, "-m", *command]
        environment = self.environment(**variables)
        return subprocess.run(
            line,
            cwd=self.root,
            env=environment,
            text=True,
            capture_output=True,
            timeout=500,
            check=False,
        )

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment of a command in this checkout, with Python's own activated."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PREFECT_API_URL": self.server, "COLUMNS": "200"}
        return {**os.environ, **own, **variables}

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Edit params.yaml."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        edit(params)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def write_matrix(self) -> None:
        """Write out params.yaml for DVC, as it is committed: `dvc repro` alone reads that file."""
        with contextlib.chdir(self.root):
            write_matrix(load_spec())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server on a free port; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    home = tmp_path_factory.mktemp("prefect")
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    os.environ["PREFECT_HOME"] = str(home)
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait(f"{url}/health", 120)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def copy_checkout(folder: Path) -> Path:
    """The files that a run needs, with the environment linked."""
    folder.mkdir(parents=True)
    for name in NEEDED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            drawn = ("validation", "calibration") if name == "data/demo" else ()
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", *drawn))
        else:
            shutil.copyfile(source, target)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def small(params: dict[str, Any]) -> None:
    """A run of seconds: small inputs, few images, two targets."""
    params["models"]["yolov8n-shapes"].update(height=160, width=160)
    params["demo"].update(validation_images=6, calibration_images=4)
    params["int8"]["yolov8n-shapes"]["minimum_images"] = 4
    params["matrix"]["targets"] = ["rtx-ampere", "rtx-ada"]
    params["validation"]["map50_95_drop"] = 0.1


def use_onnx(params: dict[str, Any], source: str) -> None:
    """Take an ONNX for the demo's model, whose opset it brings itself."""
    params["models"]["yolov8n-shapes"]["source"] = source
    params["models"]["yolov8n-shapes"].pop("opset", None)


def use_cache(params: dict[str, Any], path: str) -> None:
    """Take a calibration cache for the demo's calibration images, and nothing of what is for
    images.
    """
    rest = params["int8"]["yolov8n-shapes"]
    params["int8"]["yolov8n-shapes"] = {"calibration": path, "rule": rest["rule"]}


@pytest.fixture
def fresh(tmp_path: Path, server: str) -> Checkout:
    """A checkout in which nothing was built."""
    checkout = Checkout(copy_checkout(tmp_path / "checkout ü"), server)
    checkout.change(small)
    return checkout


def watched(log: Path) -> dict[str, str]:
    """The variables with which a process and its children note in a file what they would send
    elsewhere.
    """
    compiler = shutil.which("gcc")
    library = log.with_name("watch.so")
    if not compiler:
        return {}
    if not library.exists():
        command = [
            compiler,
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            str(ROOT / "tests/watch.c"),
            "-ldl",
        ]
        subprocess.run(command, check=True, timeout=60)
    return {"LD_PRELOAD": str(library), "ENGINERY_TEST_CONNECTIONS": str(log)}


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, server: str) -> Checkout:
    folder = tmp_path_factory.mktemp("built")
    checkout = Checkout(copy_checkout(folder / "checkout ü"), server)
    checkout.change(small)
    result = checkout.run("enginery", "build", **watched(folder / "connections.txt"))
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout


@pytest.fixture
def built(_built: Checkout, tmp_path: Path) -> Checkout:
    """A copy of a checkout in which everything is up to date."""
    shutil.copytree(_built.root, tmp_path / "built ü", symlinks=True)
    return Checkout(tmp_path / "built ü", _built.server)
