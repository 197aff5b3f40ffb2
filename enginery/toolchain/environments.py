"""Toolchains made here: an environment with one TensorRT in it below .toolchains/, checked before it counts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from enginery.errors import ToolchainError
from enginery.toolchain.client import probe
from enginery.toolchain.requests import ToolchainInfo

FOLDER = Path(".toolchains")
RUNTIMES = ("tensorrt", "tensorrt_rtx")


def interpreter(name: str) -> Path:
    """The interpreter of a toolchain made here."""
    return FOLDER / name / "bin" / "python"


def identify(python: Path) -> ToolchainInfo:
    """What a toolchain is, whichever TensorRT it has.

    Raises:
        ToolchainError: it has none that works; each one's reason is given.
    """
    reasons = []
    for runtime in RUNTIMES:
        try:
            return probe(python, runtime)
        except ToolchainError as error:
            reasons.append(error.what)
    raise ToolchainError("; ".join(dict.fromkeys(reasons)), "Install tensorrt or a tensorrt-rtx package there")


def make(name: str, package: str, python: str = sys.executable) -> ToolchainInfo:
    """Make an environment with a package (`tensorrt==10.16.1.11`, `tensorrt-rtx-cu13==1.7.1.116`) and probe it.

    Raises:
        ToolchainError: there is one of this name, pip found no such package, or TensorRT does not load.
    """
    if (FOLDER / name).exists():
        raise ToolchainError(f"there is a toolchain {name} already", f"Remove it first: enginery toolchain remove {name}")
    # An environment knows its own path: it cannot be moved, so it is made in place and taken away again on failure.
    try:
        _run([python, "-m", "venv", str(FOLDER / name)], "make the environment")
        _run([str(interpreter(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package], f"install {package}")
        return identify(interpreter(name))
    except BaseException:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        raise


def remove(name: str) -> None:
    """Delete a toolchain made here.

    Raises:
        ToolchainError: there is none of this name.
    """
    if not (FOLDER / name).is_dir():
        known = ", ".join(sorted(path.name for path in FOLDER.glob("*"))) or "none"
        raise ToolchainError(f"no toolchain {name} was made here", f"Made here: {known}; others are only named in params.yaml")
    shutil.rmtree(FOLDER / name)


def _run(command: list[str], doing: str) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ToolchainError(f"could not {doing}: {command[0]}: {error.strerror}", "Name an interpreter with --python") from None
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()[-1:]
        raise ToolchainError(f"could not {doing}: {' '.join(lines)[:400]}", "Correct its name or version, or free some space")
