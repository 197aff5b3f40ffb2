"""The objects behind what DVC restores, by the digests of their own bytes: DVC believes every
object that is read-only.

What is damaged in the work tree or in the cache is taken from where it is whole: the other of the
two, else the remote.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError, IntegrityError
from enginery.pipeline.lockfile import (
    Output,
    folder_entries,
    folder_listing,
    folder_md5,
    md5,
    md5_of,
)
from enginery.system.files import atomic_folder, atomic_write

Tell = Callable[[str], None]
_CACHE, _WORK_TREE, _REMOTE = "DVC's cache", "the work tree", "the remote"


class Objects:
    """DVC's cache of a checkout, with its remote behind it."""

    def __init__(self, repo: Any, root: Path) -> None:
        self._repo = repo
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the cache keeps an object."""
        return Path(self._repo.cache.local.oid_to_path(digest))

    def is_whole(self, digest: str) -> bool:
        """Whether the cache has an object, with its very bytes."""
        path = self.path(digest)
        return path.is_file() and md5(path) == digest.removesuffix(".dir")

    def entries(self, digest: str) -> Mapping[str, str]:
        """The files of a folder whose list the cache has, with their digests."""
        return folder_entries(self.path(digest).read_bytes())

    def make_whole(self, output: Output, tell: Tell) -> bool:
        """Have the recorded bytes of an output in the cache and in the work tree; `tell` is told
        what was damaged.

        False if they are nowhere. Then the cache has nothing of them that is damaged, and their
        step must make them again.
        """
        place = self.root / output.path
        in_place = md5_of(place) == output.digest
        sources = set(self._gather(output, place))
        if None in sources:
            tell(f"{output.path} is damaged, and neither DVC's cache nor a remote has its bytes")
            return False
        if not in_place:
            self._copy_out(output, place)
        if not in_place or sources != {_CACHE}:
            harmed = _CACHE if in_place else _WORK_TREE
            tell(
                f"{output.path} was damaged in {harmed}: its bytes are those of {_best(sources)} "
                "again"
            )
        return True

    def _gather(self, output: Output, place: Path) -> Iterator[str | None]:
        """Have every object of an output in the cache; where each was, None if it is nowhere."""
        if not output.is_folder:
            yield self._have(output.digest, place)
            return
        listed = self._have_listing(output.digest, place)
        yield listed
        if listed:
            for name, digest in self.entries(output.digest).items():
                yield self._have(digest, place / name)

    def _have(self, digest: str, copy: Path) -> str | None:
        if self.is_whole(digest):
            return _CACHE
        if copy.is_file() and md5(copy) == digest:
            with atomic_write(self.path(digest)) as partial:
                shutil.copyfile(copy, partial)
                partial.chmod(0o444)
            return _WORK_TREE
        return self.fetch(digest)

    def _have_listing(self, digest: str, folder: Path) -> str | None:
        if self.is_whole(digest):
            return _CACHE
        listing = folder_listing(folder) if folder.is_dir() else b""
        if folder_md5(listing) == digest:
            with atomic_write(self.path(digest)) as partial:
                partial.write_bytes(listing)
                partial.chmod(0o444)
            return _WORK_TREE
        return self.fetch(digest)

    def fetch(self, digest: str) -> str | None:
        """Take an object from the remote in the place of the cache's, if it is whole there; the
        cache's is dropped in any case.
        """
        path = self.path(digest)
        path.unlink(missing_ok=True)
        from dvc.exceptions import DvcException

        try:
            remote = self._repo.cloud.get_remote_odb()
        except DvcException:  # there is none, or it does not keep objects by their digests
            return None
        try:
            with atomic_write(path) as partial:
                remote.fs.get_file(remote.oid_to_path(digest), str(partial))
                if md5(partial) != digest.removesuffix(".dir"):
                    raise IntegrityError(f"the remote's object {digest} is damaged")
                partial.chmod(0o444)
        except (FileNotFoundError, IntegrityError):
            return None
        except EngineryError:
            raise
        except Exception as error:  # each kind of remote has errors of its own
            what = (
                f"object {digest} cannot be fetched from the remote: "
                f"{str(error) or type(error).__name__}"
            )
            raise EngineryError(
                what, "Look at the remote (`dvc remote list`), then run again"
            ) from None
        return _REMOTE

    def _copy_out(self, output: Output, place: Path) -> None:
        if not output.is_folder:
            with atomic_write(place) as partial:
                shutil.copyfile(self.path(output.digest), partial)
            return
        with atomic_folder(place) as folder:
            for name, digest in self.entries(output.digest).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.path(digest), folder / name)


def _best(sources: set[str | None]) -> str:
    return (
        _REMOTE
        if _REMOTE in sources
        else _CACHE
        if _CACHE in sources and len(sources) == 1
        else _WORK_TREE
    )
