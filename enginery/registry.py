"""The registry: engines by model, target and precision below artifacts/engines, each a plan with its manifest beside it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError, IntegrityError
from enginery.files import read_json, replacing_folder, sha256, write_json
from enginery.layout import ARTIFACTS, ENGINES, engine_report

PLAN, MANIFEST = "model.plan", "manifest.json"


@dataclass(frozen=True)
class Engine:
    """A registered engine."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """model/target/precision."""
        return "/".join(self.folder.parts[-3:])

    @property
    def model(self) -> str:
        """The model's name in params.yaml."""
        return self.folder.parts[-3]

    @property
    def target(self) -> str:
        """The target's name in params.yaml."""
        return self.folder.parts[-2]

    @property
    def precision(self) -> str:
        """fp32, fp16 or int8."""
        return self.folder.parts[-1]

    @property
    def built(self) -> Mapping[str, Any]:
        """The parameters it was built with."""
        parameters: Mapping[str, Any] = self.manifest["steps"]["build"]["recipe"]["parameters"]
        return parameters

    @property
    def plan(self) -> Path:
        """The plan file."""
        return self.folder / PLAN

    @property
    def state(self) -> str:
        """candidate: its graph was checked; validated: these very bytes ran on their GPU and passed."""
        report = self.folder.parents[3] / engine_report(self.model, self.target, self.precision).relative_to(ARTIFACTS)
        found = _read(report) if report.is_file() else {}
        passed = found.get("plan_sha256") == self.manifest["plan"]["sha256"] and not found["failures"]
        return "validated" if passed else "candidate"

    def summary(self) -> dict[str, Any]:
        """What `enginery list --json` prints of it."""
        keys = ("model", "target", "precision", "runtime", "runtime_version", "compute_capability", "metrics")
        plan = self.manifest["plan"]
        facts = {**{key: self.manifest[key] for key in keys}, "state": self.state}
        return {**facts, "path": self.plan.as_posix(), "sha256": plan["sha256"], "bytes": plan["bytes"]}


def publish(plan: Path, manifest: Mapping[str, Any], folder: Path) -> None:
    """Put an engine into the registry, whole or not at all.

    Raises:
        IntegrityError: the plan's bytes are not those that the manifest names.
    """
    with replacing_folder(folder) as partial:
        shutil.copyfile(plan, partial / PLAN)
        write_json(partial / MANIFEST, manifest)
        check_whole(Engine(partial, manifest))


def engines(root: Path = ENGINES) -> list[Engine]:
    """Every registered engine, sorted by model, target and precision."""
    return [Engine(path.parent, _read(path)) for path in sorted(root.glob(f"*/*/*/{MANIFEST}"))]


def engine_in(folder: Path) -> Engine | None:
    """The engine registered in a folder, if there is one."""
    manifest = folder / MANIFEST
    return Engine(folder, _read(manifest)) if manifest.is_file() else None


def find(name: str, root: Path = ENGINES) -> Engine:
    """The engine called model/target/precision, or the only one whose name contains `name`.

    Raises:
        EngineryError: there is none, or several.
    """
    found = [engine for engine in engines(root) if engine.name == name] or [e for e in engines(root) if name in e.name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(engine.name for engine in found or engines(root)) or "none yet; `enginery build` makes them"
    raise EngineryError(f"{'no' if not found else 'more than one'} engine is called {name!r}", f"Registered: {known}")


def damage(engine: Engine) -> list[str]:
    """What is wrong with an engine's files on disk; every byte of the plan is read again."""
    recorded = engine.manifest["plan"]
    if not engine.plan.is_file():
        return [f"{engine.plan}: missing"]
    if engine.plan.stat().st_size != recorded["bytes"]:
        return [f"{engine.plan}: {engine.plan.stat().st_size} bytes, {recorded['bytes']} are recorded"]
    digest = sha256(engine.plan)
    if digest == recorded["sha256"]:
        return []
    return [f"{engine.plan}: sha256 {digest[:12]}, {recorded['sha256'][:12]} is recorded: a byte changed"]


def check_whole(engine: Engine) -> None:
    """Make sure that every byte of an engine's plan is as recorded, before it is used.

    Raises:
        IntegrityError: it is not.
    """
    harm = damage(engine)
    if harm:
        raise IntegrityError(f"{harm[0]}; it was not used", "`enginery verify --restore` brings it back")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        manifest: Mapping[str, Any] = read_json(path)
    except ValueError as error:
        raise EngineryError(f"{path} is no JSON: {error}", "Run `enginery build` to register the engine again") from None
    return manifest
