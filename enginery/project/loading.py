"""A project's own code is found in its folder, the current one: the library imports no flow and no
step of its own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError
from enginery.project.origin import check_version

FLOW = Path("flows/build.py")  # Prefect's entry point of it is flows/build.py:build_engines


def find_modules_here() -> None:
    """Let `flows` and `tasks` be those of the current folder, whichever way Python was started."""
    folder = str(Path.cwd())
    if sys.path[0] != folder:
        sys.path.insert(0, folder)


def load_flow() -> Any:
    """The flow `build_engines` of the project in the current folder.

    Raises:
        EngineryError: this folder is no project, a newer version wrote it, or its flow has another
            name.
    """
    if not FLOW.is_file():
        cure = "Change to a project's folder; `enginery init` makes one"
        raise EngineryError(f"{Path.cwd()} is no project: it has no {FLOW}", cure)
    check_version(Path())
    find_modules_here()
    try:
        return import_module("flows.build").build_engines
    except AttributeError:
        what = f"{FLOW} has no flow called build_engines"
        raise EngineryError(what, "Give it that name: commands and schedules look for it") from None
