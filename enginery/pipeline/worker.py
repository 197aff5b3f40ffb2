"""The DVC of a run: one process that has DVC and dvc.yaml loaded, and forks a child for each stage.

Loading DVC for each stage anew would take most of a run. The run sends a request (a JSON line and
the pipe that the child writes to) over a socket, `Worker` is its side of it. A child leads a
session of its own, and so does all that it starts; its first line is its process number, its last
how it ended. What it prints and the step prints lies between.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from enginery.errors import EngineryError
from enginery.pipeline.lock_entries import with_entries
from enginery.pipeline.repair import write_lock
from enginery.pipeline.repository import open_repository, read_lock, stages_of
from enginery.pipeline.site_cache import VARIABLE as SITE_CACHE
from enginery.pipeline.site_cache import private_site_cache
from enginery.pipeline.step_process import load_modules, run_step, step_words
from enginery.report.events import VARIABLE

_LONGEST_REQUEST = 1 << 16
_PROGRAM = f"import sys; from {__name__} import main; main(int(sys.argv[1]))"


@dataclass(frozen=True)
class Request:
    """A stage to reproduce: `force` runs its command whatever DVC's caches have, `pull` looks into
    the remote first. Without an address, what the remote's run-cache has is fetched.
    """

    address: str = ""
    force: bool = False
    pull: bool = False


class Worker:
    """The process, as its run sees it. It ends with the run."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._socket: socket.socket | None = None

    def start(self, request: Request) -> IO[str]:
        """Have a stage reproduced; what its child writes."""
        reader, writer = os.pipe()
        try:
            self._send(json.dumps(asdict(request)).encode(), writer)
        finally:
            os.close(writer)
        return os.fdopen(reader, encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Let the process end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, request: bytes, writer: int) -> None:
        if self._socket is not None:
            try:
                socket.send_fds(self._socket, [request], [writer])
                return
            except OSError:  # somebody killed the process
                self.close()
        self._socket = self._launch()
        socket.send_fds(self._socket, [request], [writer])

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A stage's command is `python -m tasks.NAME`: the python of this environment.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        environment = {
            **os.environ,
            VARIABLE: "json",
            "PYTHONUNBUFFERED": "1",
            "PATH": path,
            SITE_CACHE: private_site_cache(self._root),
        }
        with theirs:
            subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                cwd=self._root,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return ours


def main(descriptor: int) -> None:
    """Serve requests until the run has closed its side."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: their pipes tell
    repository = open_repository(Path())
    stages = stages_of(repository)
    _write_locks_whole()
    load_modules()
    gc.freeze()  # a collection in a child would copy all that it shares
    with socket.socket(fileno=descriptor) as requests:
        while True:
            data, descriptors, _, _ = socket.recv_fds(requests, _LONGEST_REQUEST, 1)
            if not data:
                return
            if os.fork() == 0:
                requests.close()
                _child(repository, stages, Request(**json.loads(data)), descriptors[0])
            os.close(descriptors[0])


def _write_locks_whole() -> None:
    """Exchange DVC's way to write dvc.lock for ours."""
    from dvc.dvcfile import Lockfile

    Lockfile.dump_stages = _dump_stages


def _dump_stages(lockfile: Any, stages: Any, **options: Any) -> None:
    """Write stages into dvc.lock, as DVC does, but whole or not at all, and eight times as fast."""
    from dvc.stage import serialize

    path = Path(lockfile.path)
    entries: dict[str, Any] = {}
    for stage in stages:
        entries.update(json.loads(json.dumps(serialize.to_lockfile(stage, **options))))
    content = with_entries(path.read_bytes() if path.is_file() else b"", entries)
    write_lock(path.parent, content)


def _child(repository: Any, stages: dict[str, Any], request: Request, descriptor: int) -> NoReturn:
    """Do what is asked in a forked process, which ends here."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # DVC waits for the command
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        sys.stdout = os.fdopen(
            1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False
        )
        sys.stderr = sys.stdout
        _say({"event": "process", "number": os.getpid()})
        if request.address:
            outcome = _reproduce(stages[request.address], request)
        else:
            outcome = _fetch_runs(repository)
        _say({"event": "ended", "outcome": outcome})
        code = 0
    except BaseException as error:
        with suppress(OSError):  # the run has ended
            _say({"event": "ended", "error": _cause(error)})
            if not _is_expected(error):
                traceback.print_exc()
    finally:
        os._exit(code)


def _reproduce(stage: Any, request: Request) -> str:
    """As `dvc repro --single-item`; "completed" if the command ran, "restored" if DVC had its
    outputs.
    """
    from dvc.repo import lock_repo

    with lock_repo(stage.repo):
        read_lock(stage)
        ran: list[str] = []
        _note_runs(ran)
        if stage.reproduce(force=request.force, pull=request.pull, interactive=False):
            stage.dump(update_pipeline=False)
    return "completed" if ran else "restored"


def _fetch_runs(repository: Any) -> str:
    """Bring the builds that other machines recorded, so that their outputs can be restored."""
    from dvc.stage.cache import RunCacheNotSupported

    with suppress(RunCacheNotSupported):
        repository.stage_cache.pull(None)
    return "fetched"


def _note_runs(ran: list[str]) -> None:
    """Have DVC note in a list that it starts a command, and run steps in a fork of this process."""
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    original = run._run

    def noted(executable: Any, command: str, **options: Any) -> None:
        ran.append(command)
        words = step_words(command)
        if not words:
            original(executable, command, **options)
        elif code := run_step(words, options["cwd"], options["env"]):
            raise StageCmdFailedError(command, code)

    run._run = noted


def _say(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _cause(error: BaseException) -> str:
    """An error and what it comes from, in one line, as DVC's own command says it."""
    parts: list[str] = []
    each: BaseException | None = error
    while each is not None:
        text = " ".join(str(each).split()) or type(each).__name__
        if text not in " ".join(parts):
            parts.append(text)
        each = each.__cause__
    return ": ".join(parts)


def _is_expected(error: BaseException) -> bool:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    return isinstance(error, EngineryError | DvcException | LockError | KeyboardInterrupt)
