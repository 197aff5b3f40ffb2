"""The stages of a checkout: what is stale and why, and reproducing one; what DVC restores is
checked.

Staleness is asked in process. A stale stage is reproduced by a child `dvc repro --single-item` in a
session of its own, so that its output can be read line by line and the whole group stopped at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from enginery.errors import BusyError, EngineryError, IntegrityError
from enginery.pipeline.lockfile import Output, md5_of
from enginery.pipeline.objects import Objects
from enginery.pipeline.push import Progress, Pushed, push
from enginery.pipeline.repair import keep, repair
from enginery.pipeline.site_cache import VARIABLE as SITE_CACHE
from enginery.pipeline.site_cache import private_site_cache
from enginery.project.inputs import check_plain
from enginery.project.paths import crash_log
from enginery.report.events import VARIABLE
from enginery.system.files import sweep_below
from enginery.system.processes import stop_group
from enginery.system.tracebacks import unsaid

OnEvent = Callable[[Mapping[str, Any]], None]
_BUSY = ("is busy, it is being", "Unable to acquire lock")


class Pipeline:
    """The stages of one checkout.

    What a killed run left is repaired first; `say` is told in one line, if dvc.lock was damaged.
    """

    def __init__(self, root: Path = Path(), say: Callable[[str], None] | None = None) -> None:
        self._root = root
        repair(root, say or (lambda line: print(line, file=sys.stderr)))
        self._open()

    def _open(self) -> None:
        self._stages: dict[str, Any] = {}
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            self._site_cache = private_site_cache(Path(Repo.find_root(str(self._root))))
            self._repo = Repo(
                str(self._root), config={"core": {"site_cache_dir": self._site_cache}}
            )
        except DvcException as error:
            raise EngineryError(
                f"{self._root.resolve()} is no DVC project: {error}",
                "Run this in the checkout's folder",
            ) from None

    def stale(self, address: str) -> str:
        """Why DVC finds a stage stale, in words; empty if it is up to date."""
        stage = self._stage(address)
        for dependency in stage.deps:
            check_plain(
                self._root / dependency.def_path
            )  # DVC would wait for ever on a pipe, and not look behind a linked folder
        with self._repo.lock:
            status = stage.status(check_updates=False)
        return ", ".join(_words(change) for change in status.get(address, ()))

    def _stage(self, address: str) -> Any:
        # parsing dvc.yaml and dvc.lock for each stage anew would take most of a run that has
        # nothing to do
        if not self._stages:
            self._stages = {
                stage.addressing: stage for stage in self._repo.stage.load_all("dvc.yaml")
            }
        return self._stages[address]

    def has_remote(self) -> bool:
        """Whether a default remote is configured."""
        return bool(self._repo.config["core"].get("remote"))

    def reproduce(self, address: str, on_event: OnEvent) -> str:
        """Reproduce one stage: "completed" if its command ran, "restored" if DVC had its outputs.

        Every byte of the outputs is then read: DVC believes its cache and its remote. A damaged one
        is taken from where it is whole, or else made again; a warning says so.

        Raises:
            BusyError: another process reproduces it.
            EngineryError: it failed; the step's own line says why.
        """
        outcome = self._run(
            address,
            on_event,
            *(["--pull"] if self.has_remote() and self._make_room(address) else []),
        )
        if self._make_whole(address, on_event):
            return outcome
        self._run(address, on_event, "--force")
        if not self._make_whole(address, on_event):
            raise IntegrityError(
                f"{address}: its outputs changed while they were checked",
                "Look at this disk, then run again",
            )
        return "completed"

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

    def _run(self, address: str, on_event: OnEvent, *options: str) -> str:
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", *options, address]
        environment = {
            **os.environ,
            VARIABLE: "json",
            "PYTHONUNBUFFERED": "1",
            SITE_CACHE: self._site_cache,
        }
        child = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            cwd=self._repo.root_dir,
        )
        try:
            outcome = _follow(child, address, on_event)
        except BaseException:
            stop_group(child)
            sweep_below(
                self._root / "artifacts"
            )  # a step that is killed at its time limit takes nothing away itself
            raise
        self._repo.close()
        keep(self._root)
        self._open()  # the child wrote dvc.lock: what was read of it is old
        return outcome

    def _make_room(self, address: str) -> bool:
        """Take away altered outputs that DVC's cache does not have: DVC fails to pull in their
        place. False if they must stay.
        """
        unsaved = [out for out in self._cached_outs(address) if out.exists and out.changed_cache()]
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

        objects = Objects(self._repo, self._root)
        outputs = [Output(out.def_path, out.hash_info.value) for out in self._cached_outs(address)]
        whole = [objects.make_whole(output, tell) for output in outputs]
        return all(whole)

    def _cached_outs(self, address: str) -> list[Any]:
        """DVC's outputs of a stage that it keeps in its cache, as dvc.lock records them."""
        outs = self._stage(address).outs
        return [
            out for out in outs if out.use_cache and out.hash_info and out.hash_info.name == "md5"
        ]


def _follow(child: subprocess.Popen[str], address: str, on_event: OnEvent) -> str:
    started, error, others = False, "", []
    assert child.stdout is not None
    for line in child.stdout:
        event = _event(line)
        if event is None:
            others.append(line.strip())
        elif event["event"] == "started":
            started = True
        elif event["event"] == "error":
            error = event["message"]
        else:
            on_event(event)
    if child.wait():
        _raise(address, error, [line for line in others if line])
    return "completed" if started else "restored"


def _raise(address: str, error: str, lines: list[str]) -> None:
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    text = "; ".join(said or lines[-4:])
    if not error and any(words in text for words in _BUSY):
        raise BusyError(f"{address}: another run works on it", "Wait for it to end, then run again")
    if error:
        raise EngineryError(error)
    raise EngineryError(
        f"{address} failed: {unsaid(lines, text, crash_log(address)) or text or 'it said nothing'}"
    )


def _event(line: str) -> Mapping[str, Any] | None:
    with suppress(ValueError):
        value = json.loads(line)
        if isinstance(value, dict) and "event" in value:
            return value
    return None


def _words(change: Any) -> str:
    if not isinstance(change, dict):
        return str(change)
    kinds = {"changed deps": "", "changed outs": "output "}
    parts = [
        f"{kinds.get(kind, '')}{path} {what}"
        for kind, files in change.items()
        for path, what in files.items()
    ]
    return ", ".join(parts)
