"""The data that a team added by hand (`dvc add`), brought to where the checkout names it."""

from __future__ import annotations

from pathlib import Path

from enginery.errors import EngineryError
from enginery.pipeline.disk import disk_full_guard
from enginery.pipeline.repository import open_repository


def pull_data(root: Path) -> None:
    """Have every file and folder of which a .dvc file is committed, as that says; without a remote
    nothing is done.

    Raises:
        EngineryError: the remote has not all of it, or a file here was changed.
    """
    from dvc.exceptions import DvcException

    with disk_full_guard(root):
        repository = open_repository(root)
        try:
            added = [stage.addressing for stage in repository.index.stages if stage.is_data_source]
            if added and repository.config["core"].get("remote"):
                repository.pull(targets=added)
        except DvcException as error:
            what = f"the data of {root.resolve()} cannot be pulled: {' '.join(str(error).split())}"
            raise EngineryError(what, "Look at `dvc pull` there") from None
        finally:
            repository.close()
