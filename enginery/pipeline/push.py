"""Carrying to DVC's remote what another clone needs to restore instead of build, and proving from
the remote's side that it is there.

Needed is every object that the committed dvc.lock, the work tree's and each entry of DVC's
run-cache name: `dvc push --run-cache` leaves out what only the run-cache names. An entry goes to
the remote after its objects, and only if all of them are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError
from enginery.pipeline import yaml12
from enginery.pipeline.lockfile import Output, committed, md5, outputs, parse, recorded
from enginery.pipeline.objects import Objects
from enginery.pipeline.repair import RUNS, is_whole

Progress = Callable[[str, int, int], None]
_BATCH = 32  # objects that are sent between two looks at how far it is


@dataclass(frozen=True)
class Pushed:
    """What was sent, what the remote was then found to have, and what could not be carried, one
    line each.
    """

    remote: str
    sent_objects: int
    sent_bytes: int
    sent_entries: int
    objects: int
    entries: int
    lost: tuple[str, ...]  # outputs that dvc.lock names: another clone must build them
    left: tuple[str, ...]  # cached builds


class Remote:
    """The default remote: its objects, and its run-cache."""

    def __init__(self, repo: Any) -> None:
        from dvc.exceptions import DvcException

        self.name = repo.config["core"].get("remote")
        if not self.name:
            cure = (
                "Add one: dvc remote add --default shared URL (s3://bucket/path, or a "
                "folder that every machine sees)"
            )
            raise EngineryError("no DVC remote is configured, so there is nowhere to push to", cure)
        try:
            self._objects = repo.cloud.get_remote_odb(command="push")
            self._runs = repo.cloud.get_remote_odb(command="push", hash_name="md5-dos2unix")
        except DvcException as error:
            raise EngineryError(
                f"the DVC remote {self.name} cannot be used: {error}",
                "Correct it: dvc remote",
            ) from None
        self.url = str(repo.config["remote"][self.name]["url"])
        self.is_folder = self._objects.fs.protocol == "local"

    def held(self, digests: Sequence[str], progress: Progress) -> set[str]:
        """Those of the objects that the remote has; of a folder each is read, and a damaged one
        removed.
        """
        if not self.is_folder:
            return (
                set(self._objects.oids_exist(list(digests), jobs=self._objects.fs.jobs))
                if digests
                else set()
            )
        held = set()
        for done, digest in enumerate(digests, 1):
            path = Path(self._objects.oid_to_path(digest))
            if path.is_file() and md5(path) == digest.removesuffix(".dir"):
                held.add(digest)
            else:
                path.unlink(missing_ok=True)
            progress("read the remote", done, len(digests))
        return held

    def send(self, paths: Mapping[str, Path], progress: Progress) -> None:
        """Send objects, by their digests. One that does not arrive is found missing afterwards."""
        from dvc.fs import localfs

        digests = sorted(paths)
        for start in range(0, len(digests), _BATCH):
            batch = digests[start : start + _BATCH]
            files = [str(paths[digest]) for digest in batch]
            self._objects.add(files, localfs, batch, on_error=lambda *_: None, check_exists=False)
            progress("send", start + len(batch), len(digests))

    def fetch(self, digest: str, path: Path) -> None:
        """Fetch an object.

        Raises:
            FileNotFoundError: the remote has it not.
        """
        self._objects.fs.get_file(self._objects.oid_to_path(digest), str(path))

    def entries(self) -> set[str]:
        """The names of the run-cache's entries at the remote, below runs/."""
        folder = self._runs.fs.join(self._runs.path, "runs")
        if not self._runs.fs.exists(folder):
            return set()
        return {
            self._runs.fs.relpath(path, folder).replace("\\", "/")
            for path in self._runs.fs.find(folder)
        }

    def send_entry(self, name: str, path: Path) -> None:
        """Send an entry of the run-cache."""
        self._runs.fs.put_file(
            str(path), self._runs.fs.join(self._runs.path, "runs", *name.split("/"))
        )


def push(repo: Any, root: Path, progress: Progress) -> Pushed:
    """Push to the default remote.

    Raises:
        EngineryError: there is none, or it does not answer.
    """
    remote = Remote(repo)
    try:
        return _push(remote, Objects(repo, root), _named(repo, root), _cached(root), progress)
    except EngineryError:
        raise
    except Exception as error:  # each kind of remote has errors of its own
        what = (
            f"the DVC remote {remote.name} ({remote.url}) fails: "
            f"{str(error) or type(error).__name__}"
        )
        raise EngineryError(
            what,
            "Look at it with `dvc remote list`, then run again: what arrived is not sent twice",
        ) from None


def _push(
    remote: Remote,
    objects: Objects,
    named: Sequence[Output],
    cached: Mapping[str, Sequence[Output]],
    progress: Progress,
) -> Pushed:
    needs = {
        output: _needs(objects, output)
        for output in {*named, *(output for outs in cached.values() for output in outs)}
    }
    digests = sorted({digest for needed in needs.values() for digest in needed})
    held = remote.held(digests, progress)
    whole = {}
    for done, digest in enumerate(
        missing := [digest for digest in digests if digest not in held], 1
    ):
        if objects.is_whole(digest):
            whole[digest] = objects.path(digest)
        progress("read the cache", done, len(missing))
    for lists in (False, True):  # a folder's list of files follows the files
        remote.send(
            {digest: path for digest, path in whole.items() if digest.endswith(".dir") is lists},
            progress,
        )
    held |= remote.held(sorted(whole), progress)

    def lacks(output: Output) -> str:
        absent = sum(digest not in held for digest in needs[output])
        return (
            f"{output.path} ({output.digest[:12]}): {absent} of {len(needs[output])} objects"
            if absent
            else ""
        )

    lost = [
        f"{why} are not whole in DVC's cache, nor at the remote"
        for output in named
        if (why := lacks(output))
    ]
    whys = {
        name: [why for output in outs if (why := lacks(output))] for name, outs in cached.items()
    }
    left = [f"a cached build of {why[0]} are in neither" for why in whys.values() if why]
    complete = [name for name, why in whys.items() if not why]
    before = remote.entries()
    for name in complete:
        if name not in before:
            remote.send_entry(name, objects.root / RUNS / name)
    there = remote.entries().intersection(complete)
    left += [
        f"DVC's run-cache entry {name} did not arrive" for name in complete if name not in there
    ]
    arrived = held.intersection(whole)
    return Pushed(
        remote=f"{remote.name} ({remote.url})",
        sent_objects=len(arrived),
        sent_bytes=sum(whole[digest].stat().st_size for digest in arrived),
        sent_entries=len(there - before),
        objects=len(held),
        entries=len(there),
        lost=tuple(lost),
        left=tuple(left),
    )


def _needs(objects: Objects, output: Output) -> tuple[str, ...]:
    """The objects of an output; a folder whose list is nowhere needs at least that."""
    if not output.is_folder:
        return (output.digest,)
    if not objects.is_whole(output.digest) and not objects.fetch(output.digest):
        return (output.digest,)
    return (output.digest, *objects.entries(output.digest).values())


def _named(repo: Any, root: Path) -> Sequence[Output]:
    """What dvc.lock, as committed and as it is, and the .dvc files of the work tree name; not what
    git keeps.
    """
    every = list(repo.index.outs)
    uncached = {_path(out, root) for out in every if not out.use_cache}
    added = [
        Output(_path(out, root), out.hash_info.value)
        for out in every
        if out.use_cache and out.hash_info and out.stage.is_data_source and not out.stage.is_import
    ]
    content = committed(root)
    stages: Iterable[tuple[Output, ...]] = [
        *recorded(root).values(),
        *(parse(content).values() if content else ()),
    ]
    locked = [output for outs in stages for output in outs if output.path not in uncached]
    return list(dict.fromkeys([*locked, *added]))


def _path(out: Any, root: Path) -> str:
    return Path(out.fs_path).relative_to(root.resolve()).as_posix()


def _cached(root: Path) -> Mapping[str, Sequence[Output]]:
    """What the whole entries of DVC's run-cache name, by the entries' names below runs/."""
    folder = root / RUNS
    entries = [entry for entry in sorted(folder.glob("*/*/*")) if is_whole(entry)]
    return {
        entry.relative_to(folder).as_posix(): outputs(yaml12.load(entry.read_bytes()))
        for entry in entries
    }
