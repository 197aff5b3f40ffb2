"""The command of a step's stage without a new Python: a fork of the worker, which has loaded what
steps import.

`python -m tasks.NAME` would load the same modules of the same environment for each stage anew.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_COMMAND = re.compile(r"python -m (tasks\.\w+)((?: [\w.,=/-]+)*)")
# What most steps import and what starts no thread: torch and ONNX Runtime load where they are used.
_MODULES = (
    "numpy",
    "onnx",
    "pydantic",
    "enginery.calibration.cache",
    "enginery.graphs.inspect",
    "enginery.pipeline.step",
    "enginery.registry.store",
    "enginery.toolchain.client",
)


def load_modules() -> None:
    """Load what the forks share."""
    for name in _MODULES:
        importlib.import_module(name)


def step_words(command: Any) -> list[str]:
    """The module and the arguments of a command that is a step and nothing else, so that it needs
    no shell; empty for any other.
    """
    match = _COMMAND.fullmatch(command) if isinstance(command, str) else None
    return [match[1], *match[2].split()] if match else []


def run_step(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> int:
    """Run a step in a folder; its exit code, negative where a signal ended it."""
    process = get_context("fork").Process(target=_become, args=(words, folder, environment))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _become(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
    """Go on as the command would: its folder, variables, arguments, signals and open files."""
    # Not up to the limit of open files: that may be a thousand million.
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    os.closerange(3, highest + 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(words)
    sys.path[0] = folder
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
