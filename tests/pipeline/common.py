"""A checkout with three small stages, and what damages it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginery.pipeline import Pipeline
from enginery.pipeline.lockfile import md5_of, recorded
from enginery.project.stage import Stage
from enginery.registry.manifest import compose
from tests.registered import records_of

PLAN, ENGINE = "artifacts/build/m/t/fp16/model.plan", "artifacts/engines/m/t/fp16"
STARTED = """echo '{"event": "started"}'"""
TEMPLATE = json.dumps(compose(Stage("register", "m", "t", "fp16"), records_of("DIGEST", "BYTES")))
MANIFEST = f"""sed -e "s/DIGEST/$(sha256sum < {PLAN} | cut -d' ' -f1)/g" -e "s/.BYTES./$(wc -c < {PLAN})/g" template.json"""
COMMANDS = {
    "file": f"mkdir -p {Path(PLAN).parent} && tr a-z A-Z < source > {PLAN}",
    "folder": f"mkdir -p folder/deep && cp {PLAN} folder/deep/one && cat {PLAN} {PLAN} > folder/two",
    "kept": f"mkdir -p {ENGINE} && cp {PLAN} {ENGINE} && {MANIFEST} > {ENGINE}/manifest.json",
}
SCRIPT = f"""\
stages:
  file:
    cmd: {json.dumps(f"{STARTED} && {COMMANDS['file']}")}
    deps: [source]
    outs: [{PLAN}]
  folder:
    cmd: {json.dumps(f"{STARTED} && {COMMANDS['folder']}")}
    deps: [{PLAN}]
    outs: [folder]
  kept:
    cmd: {json.dumps(f"{STARTED} && {COMMANDS['kept']}")}
    deps: [{PLAN}]
    outs: [{ENGINE}: {{persist: true}}]
"""
STAGES = ("file", "folder", "kept")


@dataclass
class Project:
    """A checkout with three small stages: a file, a folder, and one that DVC's run-cache does not
    know.
    """

    root: Path
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def build(self) -> dict[str, str]:
        """Bring every stage up to date; how each was."""
        with contextlib.chdir(self.root):
            pipeline = Pipeline(say=self.said.append)
            return {
                stage: pipeline.reproduce(stage, self._on_event)
                if pipeline.stale(stage)
                else "cached"
                for stage in STAGES
            }

    def _on_event(self, event: Mapping[str, Any]) -> None:
        assert (event["severity"], event["notice"]) == ("warning", True)
        self.warnings.append(event["message"])

    def git(self, *command: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *command], cwd=self.root, check=True, capture_output=True)

    def dvc(self, *command: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "dvc", *command], cwd=self.root, check=True, capture_output=True
        )

    def cached(self, digest: str) -> Path:
        return self.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]

    def digests(self) -> dict[str, str]:
        return {
            output.path: md5_of(self.root / output.path)
            for outs in recorded(self.root).values()
            for output in outs
        }


def flip(path: Path) -> None:
    """Change one byte, without a trace in times and rights."""
    times, mode = path.stat(), path.stat().st_mode
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def object_of(project: Project, place: str) -> str:
    """The digest of a file among the outputs."""
    return md5_of(project.root / place)


def lose(project: Project, *outputs: str) -> None:
    """Take outputs out of the work tree: the next run restores them."""
    for output in outputs:
        subprocess.run(["rm", "-r", project.root / output], check=True)


Run = Callable[..., tuple[int, str, str]]
