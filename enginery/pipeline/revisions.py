"""Engines as another commit has them: its dvc.lock names them, DVC's cache or remote has them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from enginery.errors import EngineryError
from enginery.pipeline.lockfile import LOCK_FILE, Output, parse
from enginery.pipeline.objects import Objects
from enginery.pipeline.repository import open_repository
from enginery.project.engine_name import EngineName
from enginery.project.paths import ENGINES


@dataclass(frozen=True)
class Revision:
    """A commit of this project's repository, as the user calls it, and by its digest."""

    name: str
    commit: str

    @classmethod
    def of(cls, name: str) -> Revision:
        """What git calls so.

        Raises:
            EngineryError: this is no git repository, or it has no such commit.
        """
        commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if not commit:
            what = f"git knows no commit {name!r} here"
            raise EngineryError(what, "Name a commit, a branch or a tag: `git log --oneline`")
        return cls(name, commit.decode().strip())

    def file(self, path: Path) -> bytes | None:
        """A file that was committed; None if it was not."""
        return _git("show", f"{self.commit}:./{path.as_posix()}")

    def engines(self) -> Mapping[EngineName, Output]:
        """The registered engines that its dvc.lock records, each with its folder's digest.

        Raises:
            EngineryError: it has no dvc.lock, or a damaged one.
        """
        content = self.file(LOCK_FILE)
        if content is None:
            what = f"{self.name} has no {LOCK_FILE}"
            raise EngineryError(what, f"Commit {LOCK_FILE} after a build: it names what was built")
        try:
            outputs = [output for stage in parse(content).values() for output in stage]
        except ValueError as error:
            what = f"{LOCK_FILE} of {self.name} is damaged: {error}"
            raise EngineryError(what, "Name a commit whose file is whole") from None
        folders = {Path(output.path): output for output in outputs if output.is_folder}
        return {
            EngineName.of(folder): output
            for folder, output in folders.items()
            if folder.is_relative_to(ENGINES)
        }


def read_from(output: Output, file: str) -> bytes:
    """A file of a folder that DVC keeps, whether or not the folder is here.

    Raises:
        EngineryError: neither DVC's cache nor a remote has it.
    """
    with closing(open_repository(Path())) as repository:
        objects = Objects(repository, Path())
        if _have(objects, output.digest):
            digest = objects.entries(output.digest).get(file, "")
            if digest and _have(objects, digest):
                return objects.path(digest).read_bytes()
    what = f"{output.path}/{file} of that commit is neither in DVC's cache nor at a remote"
    raise EngineryError(what, "`dvc push` it from a machine that has it")


def _have(objects: Objects, digest: str) -> bool:
    return objects.is_whole(digest) or objects.fetch(digest) is not None


def _git(*words: str) -> bytes | None:
    try:
        shown = subprocess.run(["git", *words], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return shown.stdout if shown.returncode == 0 else None
