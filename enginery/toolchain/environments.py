"""Toolchains made here: an environment with one TensorRT in it below .toolchains/, checked before
it counts.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from enginery import runtimes
from enginery.errors import MissingInterpreterError, ToolchainError
from enginery.project.engine_name import NAME
from enginery.project.target import OWN_TOOLCHAIN
from enginery.toolchain.client import probe
from enginery.toolchain.requests import ToolchainInfo

FOLDER = Path(".toolchains")


def interpreter(name: str) -> Path:
    """The interpreter of a toolchain made here.

    Raises:
        ToolchainError: this is no name, which would lead elsewhere.
    """
    return _folder(name) / "bin" / "python"


def identify(python: Path) -> ToolchainInfo:
    """What a toolchain is, whichever TensorRT it has.

    Raises:
        ToolchainError: it has none that works; each one's reason is given.
    """
    reasons = []
    for runtime in runtimes.names():
        try:
            return probe(python, runtime)
        except MissingInterpreterError:
            raise
        except ToolchainError as error:
            reasons.append(error.what)
    raise ToolchainError(
        "; ".join(dict.fromkeys(reasons)), "Install tensorrt or a tensorrt-rtx package there"
    )


def make(name: str, packages: Sequence[str], python: str = sys.executable) -> ToolchainInfo:
    """Make an environment with packages (`tensorrt==10.16.1.11`, `numpy`, `pycuda`) and probe it.

    Raises:
        ToolchainError: this is no name, there is one of it, pip found no such package, or TensorRT
        does not load.
    """
    folder, listed = _folder(name), " ".join(packages)
    if folder.exists():
        raise ToolchainError(
            f"there is a toolchain {name} already",
            f"Remove it first: enginery toolchain remove {name}",
        )
    # An environment knows its own path: it cannot be moved, so it is made in place and taken away
    # again on failure.
    try:
        _run([python, "-m", "venv", str(folder)], "make the environment")
        _run(
            [
                str(interpreter(name)),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *packages,
            ],
            f"install {listed}",
        )
        return identify(interpreter(name))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove(name: str) -> None:
    """Delete a toolchain made here.

    Raises:
        ToolchainError: there is none of this name.
    """
    folder = _folder(name)
    if not folder.is_dir() or folder.is_symlink():
        known = ", ".join(sorted(path.name for path in FOLDER.glob("*"))) or "none"
        raise ToolchainError(
            f"no toolchain {name} was made here",
            f"Made here: {known}; others are only named in params.yaml",
        )
    shutil.rmtree(folder)


def _folder(name: str) -> Path:
    if not re.fullmatch(NAME, name) or name == OWN_TOOLCHAIN:
        raise ToolchainError(
            f"{name!r} is no name for a toolchain",
            f"Use small letters, digits, - and _, and not {OWN_TOOLCHAIN!r}",
        )
    return FOLDER / name


def _run(command: list[str], doing: str) -> None:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ToolchainError(
            f"could not {doing}: {command[0]}: {error.strerror}",
            "Name an interpreter with --python",
        ) from None
    if result.returncode:
        said = result.stderr.splitlines() or result.stdout.splitlines()
        lines = (
            list(dict.fromkeys(line for line in said if line.startswith("ERROR")))
            or said[-1:]
            or ["it said nothing"]
        )
        cure = (
            "Is the network there?"
            if "ConnectionError" in result.stderr
            else "Correct its name or version, or free some space"
        )
        raise ToolchainError(f"could not {doing}: {' '.join(lines)[:400]}", cure)
