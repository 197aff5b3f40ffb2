"""Small checkouts to do harm to, made once and copied for each case, and how they are compared."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.trouble.outputs import sha256_of
from benchmarks.trouble.processes import Ended, follow, kill_all, tree

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
LARGE = 1 << 20

Params = dict[str, Any]


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
            digest.update(f"{name}\0{sha256_of(ROOT / name)}\n".encode())
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
