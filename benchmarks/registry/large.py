"""A registry of many engines: how long choosing, listing and publishing take, and what a serving
host fetches.

    .venv/bin/python -m benchmarks.registry.large [--models 112] [--targets 30] [--runs 5]

The registry is a bare git repository behind git's own daemon on loopback; a proxy counts bytes.
Each model has every target at three precisions, each engine one version, which is in production.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import socket
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from enginery.registries.git_branch import POINTER
from enginery.registries.git_index import INDEX, dump_index
from enginery.registry.published import PublishedEngine
from tests.team import MODEL, Machine, Team, clone, git, identity, make_team

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("fp32", "fp16", "int8")
HOST = ("--gpu", "Card", "--compute-capability", "9.0", "--runtime", "tensorrt==10.16.1.11")

# What a service does that asks again and again: no process is started, nothing is imported.
CHOICE = """
import time
from enginery.actions.pull import best, choose, open_registry
from enginery.project.registry_settings import RegistrySettings
from enginery.registry.host import Card, Host, InstalledRuntime
host = Host(
    "linux_x86_64", (Card("9.0", "Card"),), (InstalledRuntime("tensorrt", "10.16.1.11"),)
)
registry, start = open_registry(RegistrySettings()), time.perf_counter()
best(choose(registry, "model-7", host, "production"), host, "production")
print(time.perf_counter() - start)
"""


class Counter(socketserver.ThreadingTCPServer):
    """A proxy before a port of this machine, which counts what it passes on to its clients."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Passage)
        self.behind, self.sent, self.connections = port, 0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Passage(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Pass on both ways until both ends are silent."""
        assert isinstance(self.server, Counter)
        self.server.connections += 1
        with socket.create_connection(("127.0.0.1", self.server.behind)) as behind:
            up = threading.Thread(target=pass_on, args=(self.request, behind))
            up.start()
            self.server.sent += pass_on(behind, self.request)
            up.join()


def pass_on(source: socket.socket, target: socket.socket) -> int:
    """Pass on until the end; how many bytes."""
    count = 0
    while data := source.recv(1 << 16):
        target.sendall(data)
        count += len(data)
    target.shutdown(socket.SHUT_WR)
    return count


@contextmanager
def daemon(folder: Path) -> Iterator[int]:
    """Git's daemon for the repositories of a folder; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = ["git", "daemon", "--reuseaddr", "--export-all", "--enable=receive-pack"]
    line += ["--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", str(folder)]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    try:
        wait(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait(port: int) -> None:
    """Until somebody listens."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(port)


def fill(team: Team, models: int, targets: int) -> int:
    """Put engines into the registry as one commit, each with its tags; how many."""
    first = json.loads(team.git("show", f"engines:{MODEL}/{INDEX}"))["engines"][0]
    folder = f"engines:{first['model']}/{first['target']}/{first['precision']}"
    manifest, report = (
        team.git("show", f"{folder}/{name}.json") for name in ("manifest", "report")
    )
    names: list[str] = []
    stream: list[bytes] = [b"commit refs/heads/engines\ncommitter a <a@b> 1700000000 +0000\n"]
    stream += [data(b"Many"), b"from refs/heads/engines^0\n"]
    for number in range(models):
        engines = []
        for each in range(targets * len(PRECISIONS)):
            target, precision = f"target-{each // 3}", PRECISIONS[each % 3]
            name = f"model-{number}/{target}/{precision}"
            own = manifest.replace(MODEL, f"model-{number}").replace("rtx-ada", target).encode()
            pointer = f"outs:\n- md5: {md5(name)}\n  size: 1\n  hash: md5\n  path: model.plan\n"
            files = {
                "manifest.json": own,
                "report.json": report.encode(),
                POINTER: pointer.encode(),
            }
            for file, content in files.items():
                stream += [f"M 644 inline {name}/{file}\n".encode(), data(content)]
            values = {"model": f"model-{number}", "target": target, "precision": precision}
            digests = {"plan_sha256": sha256(name), "manifest_sha256": sha256(own.decode())}
            tree = tree_of(files)
            card = {"gpu": "Card" if each < 3 else f"Card {each // 3}"}
            values |= {**digests, **card, "reference": tree}
            engines.append(PublishedEngine.model_validate({**first, **values}))
            names.append(name)
        stream += [f"M 644 inline model-{number}/{INDEX}\n".encode(), data(dump_index(engines))]
    for index, name in enumerate(names):
        for tag in (f"{name}@v1.0.0", f"{name}#production#1"):
            when = f"{1700000000 + index} +0000"
            head = f"tag {tag}\nfrom refs/heads/engines\ntagger Ada <ada@b> {when}\n"
            stream += [head.encode(), data(b"Many")]
    line = ["git", "-C", str(team.origin), "fast-import", "--quiet"]
    subprocess.run(line, input=b"".join(stream), check=True)
    team.git("pack-refs", "--all")
    return len(names)


def tree_of(files: dict[str, bytes]) -> str:
    """The id that git gives a folder of these files."""
    entries = b"".join(
        b"100644 " + name.encode() + b"\0" + bytes.fromhex(git_id(b"blob", files[name]))
        for name in sorted(files)
    )
    return git_id(b"tree", entries)


def git_id(kind: bytes, content: bytes) -> str:
    """An object's id."""
    return hashlib.sha1(kind + b" %d\0" % len(content) + content).hexdigest()


def data(content: bytes) -> bytes:
    """Bytes as fast-import takes them."""
    return b"data %d\n%s\n" % (len(content), content)


def sha256(text: str) -> str:
    """A digest."""
    return hashlib.sha256(text.encode()).hexdigest()


def md5(text: str) -> str:
    """A digest as DVC takes it."""
    return hashlib.md5(text.encode()).hexdigest()


def command(folder: Path, *arguments: str) -> float:
    """Run a command; its seconds."""
    start = time.perf_counter()
    line = [sys.executable, "-m", "enginery", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return time.perf_counter() - start


def measure(what: str, runs: int, run: Callable[[int], float], counter: Counter) -> None:
    """Print a line of the table: seconds, and kB from the server."""
    before, connections, spent = counter.sent, counter.connections, processor()
    seconds = [run(index) for index in range(runs)]
    sent = (counter.sent - before) / runs / 1e3
    asked = (counter.connections - connections) / runs
    middle, slowest = statistics.median(seconds), max(seconds)
    own = (processor() - spent) / runs
    times = f"{middle:.2f} | {slowest:.2f} | {own:.2f}"
    print(f"| {what} | {times} | {sent:.0f} | {asked:.0f} |", flush=True)


def processor() -> float:
    """Processor seconds of the processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=112)
    parser.add_argument("--targets", type=int, default=30)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="enginery-large-"))
    os.environ.update(identity(folder))
    team = make_team(folder)
    machine = clone(team, "machine")
    machine.register(f"{MODEL}/rtx-ada/fp16", valid=True)
    command(machine.root, "publish")
    count = fill(team, options.models, options.targets)
    command(machine.root, "promote", f"{MODEL}/rtx-ada/fp16")
    with daemon(folder) as port:
        counter = Counter(port)
        url = f"git://127.0.0.1:{counter.server_address[1]}/{team.origin.name}"
        git(machine.root, "remote", "set-url", "origin", url)
        print(f"{count + 1} engines of {options.models + 1} models\n")
        print("| what | median s | slowest s | processor s | kB from git | connections |")
        print("|---|---|---|---|---|---|")
        table(machine, options.runs, counter)
    shutil.rmtree(folder)


def table(machine: Machine, runs: int, counter: Counter) -> None:
    """Measure everything."""
    root = machine.root
    line = ("pull", "model-7", *HOST, "--explain")
    measure("pull --explain: the choice", runs, lambda _: command(root, *line), counter)

    def choice(_: int) -> float:
        run = [sys.executable, "-c", CHOICE]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return float(subprocess.check_output(run, cwd=root, env=environment))

    measure("the choice alone, in a running process", runs, choice, counter)

    def pull(index: int) -> float:
        return command(root, "pull", MODEL, *HOST, "--out", f"out-{index}")

    measure("pull, plan and all", runs, pull, counter)
    for arguments in ([], ["--json"], ["model-7"]):
        line = ("published", *arguments)
        measure(" ".join(line), runs, lambda _, line=line: command(root, *line), counter)

    def publish(index: int) -> float:
        machine.register(f"{MODEL}/rtx-ada/fp16", f"again {index}", valid=True)
        return command(root, "publish")

    measure("publish one engine", runs, publish, counter)

    def promote(index: int) -> float:
        return command(root, "promote", f"{MODEL}/rtx-ada/fp16", "--version", str(index + 2))

    measure("promote", runs, promote, counter)


if __name__ == "__main__":
    main()
