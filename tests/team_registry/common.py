"""What commands of a team's machine say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from enginery.cli.main import main
from enginery.project.registry_settings import RegistrySettings
from enginery.registries import open_registry
from enginery.registries.interface import Registry
from enginery.registry.published import PublishedEngine
from tests.conftest import ROOT
from tests.team import MODEL, Machine

Captured = pytest.CaptureFixture[str]
ADA, AMPERE = f"{MODEL}/rtx-ada/fp16", f"{MODEL}/rtx-ampere/int8"


def said(capsys: Captured, *arguments: str) -> str:
    """What a command says that ends well."""
    code = main(list(arguments))
    output = capsys.readouterr()
    assert code == 0, output.err
    return output.out


def refused(capsys: Captured, *arguments: str) -> str:
    """The one line of a command that is refused."""
    assert main(list(arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def registry() -> Registry:
    return open_registry(RegistrySettings())


def registry_plan(engine: PublishedEngine) -> bytes:
    with TemporaryDirectory() as folder:
        registry().fetch(engine, Path(folder))
        return (Path(folder) / "model.plan").read_bytes()


def command(machine: Machine, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`enginery publish` with another package installed."""
    path = os.pathsep.join([str(ROOT), *([str(site)] if site else [])])
    line = [sys.executable, "-m", "enginery", "publish"]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(line, cwd=machine.root, env=environment, capture_output=True, text=True)


def run(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]]
    if arguments[0] == "dvc":
        command = [sys.executable, "-m", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
