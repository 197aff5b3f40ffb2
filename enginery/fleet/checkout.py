"""A worker's own clone, brought to what the team has pushed before a run begins in it.

prefect.yaml names `use_checkout` as the pull step of its deployments.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

from enginery.errors import BusyError, EngineryError
from enginery.pipeline.data import pull_data
from enginery.project.loading import find_modules_here
from enginery.project.paths import MATRIX
from enginery.system.checkout_lock import checkout_lock
from enginery.system.files import atomic_write, temporary_folder

LOCK_FILE = "dvc.lock"
_OWN = (LOCK_FILE, MATRIX.as_posix())  # what a build writes of the files in git


def use_checkout(folder: str) -> dict[str, str]:
    """Change to a clone and update it, unless a run is at work there; for Prefect, where it is.

    Raises:
        EngineryError: it is no clone, it holds changes of its own, or a server does not answer.
    """
    for name in ("dvc", "dvc_data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not (folder and Path(folder).is_dir()):
        what = f"ENGINERY_HOME is {folder!r}, which is no folder"
        raise EngineryError(what, "Set it where the worker starts: the path of this worker's clone")
    os.chdir(folder)
    find_modules_here()
    try:
        with checkout_lock():
            _update()
    except BusyError:
        pass  # its files stay as they are while it works
    return {"directory": str(Path.cwd())}


def _update() -> None:
    """Move to the newest commit of the branch that this one follows, and keep this worker's own
    dvc.lock: it tells what was made here.
    """
    if _git("rev-parse", "--abbrev-ref", "@{upstream}", check=False):
        _git("fetch", "--quiet")
        if _git("rev-parse", "HEAD") != _git("rev-parse", "@{upstream}"):
            with temporary_folder() as folder:
                _move(folder / LOCK_FILE)
    pull_data(Path())


def _move(kept: Path) -> None:
    own = Path(LOCK_FILE)
    if own.is_file():
        shutil.copyfile(own, kept)
    try:
        if known := _git("ls-files", *_OWN).splitlines():
            _git("checkout", "--quiet", "HEAD", "--", *known)
        _git("merge", "--quiet", "--ff-only", "@{upstream}")
    finally:
        if kept.is_file():
            with atomic_write(own) as partial:
                shutil.copyfile(kept, partial)


def _git(*arguments: str, check: bool = True) -> str:
    ended = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if ended.returncode and check:
        said = " ".join(ended.stderr.split()) or f"it ended with {ended.returncode}"
        what = f"git {arguments[0]} in {Path.cwd()}: {said}"
        raise EngineryError(what, "Look at `git status` there: a worker's clone is its own")
    return ended.stdout.strip() if not ended.returncode else ""
