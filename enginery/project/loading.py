"""A project's own code, loaded from its folder: the library imports no flow and no step."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError


def load_flow() -> Any:
    """The flow `flows/build.py:build_engines` of the project in the current folder.

    Raises:
        EngineryError: this folder is no project, or its flow is missing.
    """
    return load("flows.build", "build_engines")


def load(module: str, name: str) -> Any:
    """What a module of the project in the current folder calls `name`.

    Raises:
        EngineryError: this folder is no project, or it has no such module, or nothing of the name.
    """
    path = Path(f"{module.replace('.', '/')}.py")
    if not path.is_file():
        cure = "Change to a project's folder; `enginery init` makes one"
        raise EngineryError(f"{Path.cwd()} is no project: it has no {path}", cure)
    if sys.path[0] != (folder := str(Path.cwd())):
        sys.path.insert(0, folder)
    try:
        return getattr(import_module(module), name)
    except AttributeError:
        cure = "Take the file from `enginery upgrade` again, or give it back its name"
        raise EngineryError(f"{path} has no {name}", cure) from None
