"""Small checkouts to do harm to, made once and copied for each case, and how they are compared."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ".venv/bin/python"
PRODUCT = (
    "enginery",
    "tasks",
    "flows",
    "dvc.yaml",
    "params.yaml",
    "prefect.yaml",
    ".dvc",
    ".dvcignore",
    ".gitignore",
    "data/demo/yolov8n-shapes.pt",
)
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "HOME", "USER", "SHELL", "LD_LIBRARY_PATH")
PARTIAL = ("*.part", "*.tmp", ".scratch.*", "*.unpacking")
OUTPUTS = (".onnx", ".plan", ".cache")
LARGE = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36

Params = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a command ended; the code is None if it was stopped at its limit.

    `lines` are those of both streams, each with the seconds at which it came.
    """

    code: int | None
    seconds: float
    lines: tuple[tuple[float, str], ...]

    @property
    def text(self) -> str:
        """All that it said."""
        return "\n".join(line for _, line in self.lines)

    def last(self, characters: int = 400) -> str:
        """What it said of its failures, or else its last words, as one line."""
        lines = [line for _, line in self.lines if line.strip()]
        failed = [number for number, line in enumerate(lines) if line.startswith("Failed")]
        chosen = dict.fromkeys(line for number in failed for line in lines[number : number + 2])
        text = " | ".join(line.strip() for line in chosen or lines)
        return text[:characters] if chosen else text[-characters:]


@dataclass(frozen=True)
class Place:
    """A checkout, and the folders beside it that belong to its runs.

    `variables` are added to its commands' environment, empty ones taken out of it; `process` are
    options of their processes: user, group, umask. `wrapper` starts them, as in nice -n 5.
    """

    folder: Path
    server: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The checkout: a space and a letter outside ASCII are in its path."""
        return self.folder / "checkout ü"

    @property
    def temporary(self) -> Path:
        """TMPDIR of its commands."""
        return self.folder / "tmp"

    def environment(self) -> dict[str, str]:
        """Little but what a command needs; without a `server`, Prefect starts its own."""
        kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        kept |= {"PREFECT_HOME": str(self.folder / "prefect"), "TMPDIR": str(self.temporary)}
        if self.server:
            kept["PREFECT_API_URL"] = self.server
        kept |= {"COLUMNS": "200", **self.variables}
        return {name: value for name, value in kept.items() if value}

    def run(self, *words: str, limit: float = 300) -> Ended:
        """Run `enginery WORDS` to its end; at the limit it is killed with all that it started."""
        return follow(self.start(*words), limit)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `enginery WORDS`; both streams are one pipe."""
        return subprocess.Popen(
            [*self.wrapper, PYTHON, "-m", "enginery", *words],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **self.process,
        )

    def change(self, edit: Callable[[Params], Any]) -> None:
        """Edit params.yaml."""
        params = yaml.safe_load((self.root / "params.yaml").read_text())
        edit(params)
        self.write("params.yaml", yaml.safe_dump(params, sort_keys=False))

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file of the checkout anew: the old one may be linked to the template's."""
        path = self.remove(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def remove(self, name: str) -> Path:
        """Remove a file or a folder of the checkout."""
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return path


def follow(
    process: subprocess.Popen[bytes], limit: float, hear: Callable[[str], None] = lambda line: None
) -> Ended:
    """A command's lines until it ends; at the limit it is killed with all that it started.

    It has ended when its own process has: one that it left behind may hold the pipe open.
    """
    began, lines, rest = time.monotonic(), [], b""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            chunk = _read(process.stdout.fileno()) if ready.select(0 if ended else 0.1) else b""
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.append((time.monotonic() - began, line.decode(errors="replace")))
                hear(lines[-1][1])
            if ended and not chunk:
                break
            if time.monotonic() - began > limit and not ended:
                kill_all(tree(process.pid))
                limit = float("inf")
    if rest:
        lines.append((time.monotonic() - began, rest.decode(errors="replace")))
    process.stdout.close()
    code = None if limit == float("inf") else process.wait()
    return Ended(code, time.monotonic() - began, tuple(lines))


def _read(pipe: int) -> bytes:
    try:
        data = os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""
    if not data:  # all ends of the pipe are closed: wait for the process itself
        time.sleep(0.05)
    return data


def adopt_orphans() -> None:
    """Become the parent of whatever the processes below this one leave behind."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def below_me() -> list[psutil.Process]:
    """All processes below this one that are alive."""
    return [process for process in tree(os.getpid())[1:] if _alive(process)]


def working_in(folder: Path) -> list[psutil.Process]:
    """The processes whose working folder is `folder` or below it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            place = Path(process.cwd())
            if process.pid != os.getpid() and place.is_relative_to(folder) and _alive(process):
                found.append(process)
    return found


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def kill_all(processes: list[psutil.Process]) -> None:
    """SIGKILL: all are stopped first, so that none sees another end."""
    for act in ("suspend", "kill"):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                getattr(process, act)()
    psutil.wait_procs(processes, 10)


def describe(processes: list[psutil.Process]) -> str:
    """Processes as a person tells them apart."""
    names = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            names.append(f"{process.pid} {' '.join(process.cmdline())[-80:]}")
    return "; ".join(names)


def partial_files(root: Path) -> list[str]:
    """What is half written in a checkout."""
    found = {path for pattern in PARTIAL for path in root.rglob(pattern)}
    return sorted(str(path.relative_to(root)) for path in found)


def digests(root: Path, part: str = "") -> dict[str, str]:
    """sha256 of every graph, cache, plan and manifest below artifacts/PART."""
    artifacts = root / "artifacts"
    return {
        str(path.relative_to(artifacts)): _sha256(path)
        for path in sorted((artifacts / part).rglob("*"))
        if path.is_file() and (path.suffix in OUTPUTS or path.name == "manifest.json")
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs between two answers of `digests`, in words."""
    lost = [f"{name} is missing" for name in sorted(before.keys() - after.keys())]
    new = [f"{name} is new" for name in sorted(after.keys() - before.keys())]
    same = sorted(before.keys() & after.keys())
    return [*lost, *new, *(f"{name} differs" for name in same if before[name] != after[name])]


def new_checkout(folder: Path, server: str) -> Place:
    """The product's files in a folder of their own, this environment linked, nothing built."""
    place = Place(folder, server)
    place.temporary.mkdir(parents=True)
    (place.folder / "prefect").mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PRODUCT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = place.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    (place.root / ".venv").symlink_to((ROOT / ".venv").resolve())
    subprocess.run(["git", "init", "-q"], cwd=place.root, check=True)
    return place


def copied(source: Place, folder: Path, linked: bool = True) -> Place:
    """A copy of a checkout; where `linked`, its large files are links to the template's."""
    place = replace(source, folder=folder)
    place.temporary.mkdir(parents=True)
    (place.folder / "prefect").mkdir()
    copy = _link_if_large if linked else shutil.copy2
    shutil.copytree(source.root, place.root, symlinks=True, copy_function=copy)
    return place


def _link_if_large(source: str, target: str) -> None:
    if Path(source).stat().st_size > LARGE:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def workshop() -> Path:
    """Where templates are kept between runs of these scripts."""
    folder = Path(tempfile.gettempdir()) / f"enginery-trouble-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def product_digest() -> str:
    """Of all files that a checkout has: another product needs other templates."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PRODUCT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    digest = hashlib.sha256()
    for name in sorted(listed.splitlines()):
        if (ROOT / name).is_file():
            digest.update(f"{name}\0{_sha256(ROOT / name)}\n".encode())
    return digest.hexdigest()[:12]


def template(name: str, server: str, prepare: Callable[[Place], None]) -> Place:
    """A checkout that `prepare` made, kept for as long as the product stays the same.

    Raises:
        SystemExit: it cannot be made.
    """
    folder = workshop() / f"{name}-{product_digest()}"
    if not folder.exists():
        began, making = time.monotonic(), folder.with_name(f"{folder.name}.{os.getpid()}.making")
        shutil.rmtree(making, ignore_errors=True)
        prepare(new_checkout(making, server))
        making.rename(folder)
        print(f"made the template {name} in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return Place(folder, server)


def must(ended: Ended, what: str) -> Ended:
    """An undisturbed run has to succeed.

    Raises:
        SystemExit: it did not.
    """
    if ended.code != 0:
        raise SystemExit(f"{what} ended with {ended.code}:\n{ended.text}")
    return ended


@contextmanager
def side_by_side(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for cases; Ctrl-C ends what they started, and begins nothing new."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        kill_all(below_me())
        raise
    pool.shutdown()


@contextmanager
def prefect_server() -> Iterator[str]:
    """A Prefect server of its own on a free port; its URL. SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    with tempfile.TemporaryDirectory(prefix="enginery-trouble-prefect-") as home:
        variables = {
            "PREFECT_HOME": home,
            "PREFECT_API_URL": url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        command = [str(ROOT / PYTHON), "-m", "prefect", "server", "start", "--port", str(port)]
        with (Path(home) / "server.log").open("w") as log:
            server = subprocess.Popen(
                command,
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
                cwd=home,
                start_new_session=True,
            )
        try:
            _wait_for(f"{url}/health", server, 600)
            yield url
        finally:
            kill_all(tree(server.pid))
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > end or server.poll() is not None:
                raise
            time.sleep(0.3)


def machine() -> str:
    """The machine and the versions that results hold for, as one line."""
    from importlib.metadata import version

    memory = psutil.virtual_memory().total / 2**30
    tools = ("dvc", "prefect", "ultralytics", "onnx", "onnxruntime", "tensorrt-rtx-cu13")
    versions = ", ".join(f"{tool} {version(tool)}" for tool in tools)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return (
        f"{os.cpu_count()} cores {platform.machine()}, {memory:.0f} GiB memory, Linux "
        f"{platform.release()}, Python {platform.python_version()}, {versions}, at {commit}"
    )
