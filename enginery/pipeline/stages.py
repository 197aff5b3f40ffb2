"""The stages of a project: what is stale and why, and reproducing one; what DVC restores is
checked.

Staleness is asked in this process. A stale stage is reproduced by a child of the run's worker, in a
session of its own, so that its output can be read line by line and the whole group stopped at once.
Several threads may ask and reproduce at once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from enginery.errors import IntegrityError
from enginery.pipeline.disk import disk_full_guard
from enginery.pipeline.graph import Graph, check_graph, read_graph
from enginery.pipeline.lockfile import Output, md5_of
from enginery.pipeline.matrix import write_matrix
from enginery.pipeline.objects import Objects
from enginery.pipeline.process import GRACE_S, OnEvent, StageProcess
from enginery.pipeline.push import Progress, Pushed, push
from enginery.pipeline.repair import repair
from enginery.pipeline.repository import open_repository, read_lock, stages_of
from enginery.pipeline.worker import Request, Worker
from enginery.project.inputs import check_plain
from enginery.project.params import Spec
from enginery.system.files import sweep_below


def open_project(spec: Spec) -> tuple[Pipeline, Graph]:
    """The pipeline of the current folder with its graph, which has what params.yaml asks for.

    Raises:
        EngineryError: dvc.yaml has mistakes, or lacks stages.
    """
    write_matrix(spec)
    pipeline = Pipeline()
    graph = pipeline.graph()
    check_graph(graph, spec)
    return pipeline, graph


class Pipeline:
    """The stages of one project. What a killed run left is repaired first; `say` is told in one
    line, if dvc.lock was damaged.
    """

    def __init__(self, root: Path = Path(), say: Callable[[str], None] | None = None) -> None:
        self._root = root
        with disk_full_guard(root):
            repair(root, say or (lambda line: print(line, file=sys.stderr)))
            self._repo = open_repository(root)
        self._worker = Worker(root)
        self._dvc = threading.RLock()  # DVC in this process is for one thread at a time
        self._children: set[StageProcess] = set()
        self._stopping = False
        self._runs_fetched = False

    def graph(self) -> Graph:
        """dvc.yaml's stages, each after those that it needs.

        Raises:
            EngineryError: dvc.yaml has a mistake.
        """
        with self._dvc:
            return read_graph(self._repo)

    def stale(self, address: str) -> str:
        """Why DVC finds a stage stale, in words; empty if it is up to date."""
        with disk_full_guard(self._root):
            stage = self._stage(address)
        for dependency in stage.deps:
            # DVC would wait for ever on a pipe, and not look behind a linked folder.
            check_plain(self._root / dependency.def_path)
        with disk_full_guard(self._root), self._dvc, self._repo.lock:
            status = stage.status(check_updates=False)
        return ", ".join(_words(change) for change in status.get(address, ()))

    def missing(self, address: str) -> list[str]:
        """The files that a stage reads and that are not here."""
        return [
            dependency.def_path
            for dependency in self._stage(address).deps
            if not (self._root / dependency.def_path).exists()
        ]

    def reproduce(self, address: str, on_event: OnEvent) -> str:
        """Reproduce one stage: "completed" if its command ran, "restored" if DVC had its outputs.

        Every byte of the outputs is then read: DVC believes its cache and its remote. A damaged one
        is taken from where it is whole, or else made again; a warning says so.

        Raises:
            BusyError: another process reproduces it.
            DiskFullError: there was no room; it names the place.
            EngineryError: it failed; the step's own line says why.
        """
        folders = [Path(out.def_path).parent for out in self._stage(address).outs]
        with disk_full_guard(self._root, folders):
            return self._reproduce(address, on_event)

    def _reproduce(self, address: str, on_event: OnEvent) -> str:
        pull = self.has_remote() and self._make_room(address)
        if pull:
            self._fetch_runs()
        outcome = self._run(Request(address, pull=pull), on_event)
        if self._make_whole(address, on_event):
            return outcome
        self._run(Request(address, force=True), on_event)
        if not self._make_whole(address, on_event):
            what = f"{address}: its outputs changed while they were checked"
            raise IntegrityError(what, "Look at this disk, then run again")
        return "completed"

    def has_remote(self) -> bool:
        """Whether a default remote is configured."""
        return bool(self._repo.config["core"].get("remote"))

    def restore(self, outputs: Iterable[Output], tell: Callable[[str], None]) -> list[Output]:
        """Have the recorded bytes of outputs here and in the cache again; those that are nowhere,
        which DVC then finds changed.
        """
        objects = Objects(self._repo, self._root)
        lost = [output for output in outputs if not objects.make_whole(output, tell)]
        for output in lost:
            place = self._root / output.path
            for path in (place, *place.rglob("*")):
                with suppress(FileNotFoundError):
                    os.utime(path)  # DVC does not read a file again whose time and size it knows
        return lost

    def push(self, progress: Progress) -> Pushed:
        """Carry to the remote what another clone needs to restore every build of dvc.lock and of
        DVC's run-cache.

        Raises:
            EngineryError: there is no remote, or it does not answer.
        """
        return push(self._repo, self._root, progress)

    def stop(self) -> None:
        """End what other threads reproduce; no stage is begun after this."""
        self._stopping = True
        children = list(self._children)
        for child in children:
            child.stop()
        for child in children:
            child.ended.wait(GRACE_S)
            child.kill()

    def close(self) -> None:
        """Let DVC's own process end."""
        self._worker.close()
        self._repo.close()

    @cached_property
    def _stages(self) -> dict[str, Any]:
        return stages_of(self._repo)

    def _stage(self, address: str) -> Any:
        with self._dvc:
            return self._stages[address]

    def _fetch_runs(self) -> None:
        with self._dvc:
            if not self._runs_fetched:
                self._run(Request(), lambda event: None)
                self._runs_fetched = True

    def _run(self, request: Request, on_event: OnEvent) -> str:
        child = StageProcess(self._worker.start(request), request.address)
        self._children.add(child)
        try:
            return child.follow(on_event, lambda: self._stopping)
        except BaseException:
            child.stop()
            child.drain()
            # A step that is killed at its time limit takes nothing away itself.
            sweep_below(self._root / "artifacts")
            raise
        finally:
            child.ended.set()
            self._children.discard(child)
            with self._dvc:
                if request.address:
                    read_lock(self._stage(request.address))

    def _make_room(self, address: str) -> bool:
        """Take away altered outputs that DVC's cache does not have: DVC fails to pull in their
        place. False if they must stay.
        """
        with self._dvc:
            outs = self._cached_outs(address)
            unsaved = [out for out in outs if out.exists and out.changed_cache()]
            altered = [
                out for out in unsaved if md5_of(self._root / out.def_path) != out.hash_info.value
            ]
            if any(out.persist for out in altered):
                return False
            for out in altered:
                out.remove()
            return True

    def _make_whole(self, address: str, on_event: OnEvent) -> bool:
        """Check the bytes of a stage's outputs here and in the cache, and mend them; False if the
        stage must make them again.
        """

        def tell(line: str) -> None:
            on_event({"event": "log", "severity": "warning", "message": line, "notice": True})

        with self._dvc:
            objects = Objects(self._repo, self._root)
            outputs = [
                Output(out.def_path, out.hash_info.value) for out in self._cached_outs(address)
            ]
            whole = [objects.make_whole(output, tell) for output in outputs]
        return all(whole)

    def _cached_outs(self, address: str) -> list[Any]:
        """DVC's outputs of a stage that it keeps in its cache, as dvc.lock records them: they are
        read anew after each run of the stage.
        """
        outs = self._stage(address).outs
        return [
            out for out in outs if out.use_cache and out.hash_info and out.hash_info.name == "md5"
        ]


def _words(change: Any) -> str:
    if not isinstance(change, dict):
        return str(change)
    parts = [f"{path} {what}" for path, what in change.get("changed deps", {}).items()]
    by_what: dict[str, list[str]] = {}
    for path, what in change.get("changed outs", {}).items():
        by_what.setdefault(what, []).append(path)
    for what, paths in by_what.items():
        which = f"output {paths[0]}" if len(paths) == 1 else f"{len(paths)} outputs"
        parts.append(f"{which} {what}")
    return ", ".join(parts)
