"""A team: a project in a bare git repository, and machines with clones of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fleet.services import Service
from tests.judges.arrays import write_arrays, write_fusion

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("rtx-ampere", "rtx-ada", "rtx-blackwell")


def run(folder: Path, *command: str, **variables: str) -> str:
    """Run a command in a folder; what it says.

    Raises:
        RuntimeError: it failed.
    """
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stdout}{ended.stderr}")
    return ended.stdout


def enginery(folder: Path, *arguments: str, **variables: str) -> str:
    """Run a command of Enginery's."""
    return run(folder, sys.executable, "-m", "enginery", *arguments, **variables)


def make_origin(folder: Path, remote: str, toolchain: Path, endpoint: str = "") -> Path:
    """A bare repository with a project of a tiny model for three targets, of which rtx-ada has a
    toolchain of its own; its data lies at a DVC remote.
    """
    first = folder / "first"
    first.mkdir()
    write_fusion(first / "fusion.onnx")
    write_arrays(first / "arrays/validation", range(4))
    run(first, "git", "init", "--quiet", "--initial-branch=main")
    options = ["--task", "tensors", "--target", ",".join(TARGETS), "--precision", "fp32,fp16"]
    enginery(first, "init", "--model", "fusion.onnx", "--data", "arrays/validation", *options)
    change_yaml(first / "params.yaml", lambda params: _settings(params, toolchain))
    change_yaml(first / "prefect.yaml", _own_targets)
    dvc = (sys.executable, "-m", "dvc", "remote")
    run(first, *dvc, "add", "--default", "shared", remote)
    if endpoint:
        run(first, *dvc, "modify", "shared", "endpointurl", endpoint)
    origin = folder / "origin.git"
    run(folder, "git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    run(origin, "git", "config", "uploadpack.allowFilter", "true")
    with (first / ".gitignore").open("a") as ignored:
        ignored.write("/arrays\n")
    enginery(first, "status")  # writes artifacts/matrix.yaml
    run(first, sys.executable, "-m", "dvc", "push", "--quiet")
    run(first, "git", "add", ".")
    run(first, "git", "commit", "--quiet", "-m", "A project")
    run(first, "git", "push", "--quiet", str(origin), "main")
    return origin


def change_yaml(path: Path, edit: Any) -> None:
    """Edit a YAML file."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _settings(params: dict[str, Any], toolchain: Path) -> None:
    params["toolchains"] = {"ada": {"python": str(toolchain)}}
    params["targets"]["rtx-ada"]["toolchain"] = "ada"
    params["registry"] = {"approval": True}


def _own_targets(deployments: dict[str, Any]) -> None:
    """Each pool is for one target: TensorRT-RTX builds for any GPU on any machine."""
    for each in deployments["deployments"]:
        if each["name"].startswith(("build-", "watch-")):
            each["parameters"] = {
                **each.get("parameters", {}),
                "targets": ["{{ $ENGINERY_POOL }}"],
            }
            each.pop("schedules", None)  # the demo asks when it wants to know


@dataclass(frozen=True)
class Machine:
    """A worker with a clone of its own, of the pool of its target."""

    target: str
    clone: Path
    worker: Service

    @property
    def variables(self) -> Mapping[str, str]:
        """What its command lines have."""
        return self.worker.environment


def make_machine(folder: Path, origin: Path, target: str) -> Machine:
    """A clone of the project, and its worker, which is not started."""
    clone = folder / f"clone-{target}"
    run(folder, "git", "clone", "--quiet", str(origin), str(clone))
    variables = {
        "ENGINERY_HOME": str(clone),
        "ENGINERY_POOL": target,
        "ENGINERY_MACHINE": f"box-{target}",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    line = [sys.executable, "-m", "prefect", "worker", "start", "--pool", target]
    line += ["--type", "process", "--limit", "1", "--name", target]
    worker = Service(f"worker-{target}", line, folder, variables)
    return Machine(target, clone, worker)
