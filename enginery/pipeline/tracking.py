"""`dvc add`: files and folders that DVC keeps, so that other machines of the team get them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from enginery.errors import EngineryError
from enginery.pipeline.site_cache import VARIABLE, private_site_cache
from enginery.system.extras import missing


def track(root: Path, names: Sequence[str]) -> None:
    """Let DVC keep files and folders of the project at `root`.

    Raises:
        EngineryError: DVC is not installed, or refuses one.
    """
    if importlib.util.find_spec("dvc") is None:
        raise missing("dvc")
    command = [sys.executable, "-m", "dvc", "add", "--quiet", "--", *names]
    environment = {**os.environ, VARIABLE: private_site_cache(root)}
    added = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if added.returncode:
        said = " ".join(added.stderr.replace("ERROR: ", "").split())
        raise EngineryError(f"DVC does not track {', '.join(names)}: {said}", "Correct this first")


def is_tracked(root: Path, name: str) -> bool:
    """Whether DVC keeps a path already, by itself or with a folder above it, or git does."""
    path = root / name
    inside = (each for each in (path, *path.parents) if each.is_relative_to(root) and each != root)
    if any(each.with_name(f"{each.name}.dvc").is_file() for each in inside):
        return True
    command = ["git", "ls-files", "--error-unmatch", "--", name]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
