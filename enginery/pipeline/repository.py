"""Opening a DVC repository as this project uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enginery.errors import EngineryError
from enginery.pipeline.lock_entries import read_entry
from enginery.pipeline.lockfile import LOCK_FILE
from enginery.pipeline.site_cache import private_site_cache


def read_lock(stage: Any) -> None:
    """Bring a stage of DVC's up to what dvc.lock records of it now."""
    from dvc.stage.loader import StageLoader

    path = Path(stage.path).with_suffix(LOCK_FILE.suffix)
    entry = read_entry(path.read_bytes(), stage.name) if path.is_file() else None
    stage.cmd_changed = entry is not None and entry.get("cmd") != stage.cmd
    StageLoader.fill_from_lock(stage, entry)


def stages_of(repository: Any) -> dict[str, Any]:
    """The stages that have a command, by address, of the same parse as the graph."""
    return {stage.addressing: stage for stage in repository.index.stages if has_command(stage)}


def has_command(stage: Any) -> bool:
    """Whether a stage is one of dvc.yaml that runs something: `dvc add` makes others."""
    return hasattr(stage, "name") and bool(stage.cmd)


def open_repository(root: Path) -> Any:
    """DVC's own object for the repository that a folder belongs to.

    Raises:
        EngineryError: there is none.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        site_cache = private_site_cache(Path(Repo.find_root(str(root))))
        # The stages of a run wait for each other, as long as it takes.
        config = {"core": {"site_cache_dir": site_cache}}
        repository = Repo(str(root), config=config, _wait_for_lock=True)
        repository.lock._friendly = False  # and say nothing of it
        return repository
    except DvcException as error:
        what = f"{root.resolve()} is no DVC project: {error}"
        raise EngineryError(what, "Run this in the project's folder") from None
