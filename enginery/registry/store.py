"""The registry: engines by model, target and precision below artifacts/engines.

Each is a plan with its manifest beside it. Where one of the two is not whole, it is a DamagedEngine
with the reason: it is never used, and hides no other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.errors import DamagedFileError, EngineryError, IntegrityError
from enginery.evaluation.engine_report import EngineReport, doubts, operating_points
from enginery.project.engine_name import EngineName
from enginery.project.paths import ARTIFACTS, ENGINES, engine_report
from enginery.project.target import OLDEST_COMPATIBLE
from enginery.registry.built import BuildParameters
from enginery.registry.manifest import Manifest, read_manifest
from enginery.registry.records import read_record
from enginery.system.files import atomic_folder, sha256, write_json

PLAN, MANIFEST = "model.plan", "manifest.json"
_REPAIR = (
    "Run `enginery build`: it registers the engine again; "
    "`enginery verify --restore` brings back one that another machine built"
)


@dataclass(frozen=True)
class GpuCheck:
    """The report of an engine on its GPU where it counts; else why not (empty: there is none)."""

    report: EngineReport | None = None
    reason: str = ""


@dataclass(frozen=True)
class Cards:
    """The GPUs that an engine is for: a compute capability (None: any), one kind of card (None:
    any), or all from Ampere on.
    """

    compute_capability: str | None
    gpu: str | None
    hardware_compatible: bool

    def include(self, capability: str, card: str) -> bool:
        """Whether the engine runs on such a GPU.

        A plan of `tensorrt` is for one kind of card, unless it was built for later ones, too.
        """
        if self.hardware_compatible:
            return float(capability) >= OLDEST_COMPATIBLE
        return self.compute_capability in (None, capability) and self.gpu in (None, card)


@dataclass(frozen=True)
class Engine:
    """A registered engine."""

    folder: Path
    manifest: Manifest

    @property
    def identity(self) -> EngineName:
        """Its model, target and precision."""
        return self.manifest.name

    @property
    def name(self) -> str:
        """model/target/precision."""
        return str(self.identity)

    @property
    def model(self) -> str:
        """The model's name in params.yaml."""
        return self.identity.model

    @property
    def target(self) -> str:
        """The target's name in params.yaml."""
        return self.identity.target

    @property
    def precision(self) -> str:
        """fp32, fp16 or int8."""
        return self.identity.precision

    @property
    def built(self) -> BuildParameters:
        """The parameters it was built with."""
        return self.manifest.built

    @property
    def plan(self) -> Path:
        """The plan file."""
        return self.folder / PLAN

    @property
    def state(self) -> str:
        """candidate: its graph passed; validated: these very bytes ran on their GPU and passed."""
        return "validated" if self.gpu_check.report else "candidate"

    @property
    def gpu_check(self) -> GpuCheck:
        """Its report beside the registry."""
        return self.check_report(self.report_path)

    @property
    def report_path(self) -> Path:
        """Where `enginery validate` writes its report."""
        usual = engine_report(self.model, self.target, self.precision)
        return self.folder.parents[3] / usual.relative_to(ARTIFACTS)

    def check_report(self, path: Path) -> GpuCheck:
        """A report, which counts if it is whole, of these bytes, and its own numbers pass."""
        if not path.exists():
            return GpuCheck()
        try:
            report = read_record(path, EngineReport)
        except DamagedFileError as error:
            return GpuCheck(reason=f"its report does not count: {path} {error.reason}")
        if report.plan_sha256 != self.manifest.plan.sha256:
            return GpuCheck(reason=f"its report does not count: {path} is of another plan")
        reasons = dict.fromkeys(self._doubts(report))
        return GpuCheck(reason=f"on its GPU: {'; '.join(reasons)}") if reasons else GpuCheck(report)

    def _doubts(self, report: EngineReport) -> Iterator[str]:
        card, capability = report.gpu.gpu, report.gpu.compute_capability
        if not self.is_for(capability, card):
            yield f"it was run on {card} ({capability}), which it is not for"
        yield from doubts(report, operating_points(self.built.shapes), self.manifest.tolerance)

    def is_for(self, capability: str, card: str) -> bool:
        """Whether it runs on such a GPU."""
        manifest = self.manifest
        cards = Cards(manifest.compute_capability, manifest.gpu, self.built.hardware_compatible)
        return cards.include(capability, card)


@dataclass(frozen=True)
class DamagedEngine:
    """What is registered under an engine's name and cannot be used."""

    folder: Path
    identity: EngineName
    reason: str

    @property
    def name(self) -> str:
        """model/target/precision."""
        return str(self.identity)

    @property
    def error(self) -> DamagedFileError:
        """Why it cannot be used, and what to do."""
        return DamagedFileError(self.folder, f"is damaged: {self.reason}", _REPAIR)


Entry = Engine | DamagedEngine


def publish(plan: Path, manifest: Mapping[str, Any], folder: Path) -> None:
    """Put an engine into the registry, whole or not at all.

    Raises:
        IntegrityError: the plan's bytes are not those that the manifest names.
        DamagedFileError: the manifest is not one of this engine.
    """
    with atomic_folder(folder) as partial:
        shutil.copyfile(plan, partial / PLAN)
        write_json(partial / MANIFEST, manifest)
        check_whole(Engine(partial, read_manifest(partial / MANIFEST, EngineName.of(folder))))


def entries(root: Path = ENGINES) -> list[Entry]:
    """All that is registered, the damaged too, sorted by model, target and precision."""
    return [entry_in(folder) for folder in engine_folders(root)]


def engine_folders(root: Path) -> list[Path]:
    """The folders model/target/precision below `root`, but for those that are being written."""
    return [folder for folder in sorted(root.glob("*/*/*")) if EngineName.of(folder).possible]


def engines(root: Path = ENGINES) -> list[Engine]:
    """Every registered engine that can be used, sorted by model, target and precision."""
    return [entry for entry in entries(root) if isinstance(entry, Engine)]


def engine_in(folder: Path) -> Engine | None:
    """The engine registered in a folder, if there is one that can be used."""
    entry = entry_in(folder)
    return entry if isinstance(entry, Engine) else None


def entry_in(folder: Path) -> Entry:
    """What is registered in a folder; of the plan, only the size is compared here."""
    name = EngineName.of(folder)
    try:
        manifest = read_manifest(folder / MANIFEST, name)
    except DamagedFileError as error:
        return DamagedEngine(folder, name, f"{MANIFEST} {error.reason}")
    if cut := _cut(folder / PLAN, manifest.plan.bytes):
        return DamagedEngine(folder, name, f"{PLAN}: {cut}")
    return Engine(folder, manifest)


def find(name: str, root: Path = ENGINES) -> Engine:
    """The engine called model/target/precision, or the only one whose name contains `name`.

    Raises:
        EngineryError: there is none, there are several, or it is damaged.
    """
    entry = find_entry(name, root)
    if isinstance(entry, DamagedEngine):
        raise entry.error
    return entry


def find_entry(name: str, root: Path = ENGINES) -> Entry:
    """As `find`, the damaged too.

    Raises:
        EngineryError: there is none, or there are several.
    """
    known = entries(root)
    matching = [entry for entry in known if entry.name == name]
    matching = matching or [entry for entry in known if name in entry.name]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(entry.name for entry in matching or known)
    what = f"{'more than one' if matching else 'no'} engine is called {name!r}"
    raise EngineryError(what, f"Registered: {names or 'none yet; `enginery build` makes them'}")


def damage(entry: Entry) -> list[str]:
    """What is wrong with an engine's files on disk; every byte of the plan is read again."""
    if isinstance(entry, DamagedEngine):
        return [f"{entry.folder}: {entry.reason}"]
    if cut := _cut(entry.plan, entry.manifest.plan.bytes):
        return [f"{entry.plan}: {cut}"]
    digest, recorded = sha256(entry.plan), entry.manifest.plan.sha256
    if digest == recorded:
        return []
    return [f"{entry.plan}: sha256 {digest[:12]}, {recorded[:12]} is recorded: a byte changed"]


def check_whole(engine: Engine) -> None:
    """Make sure that every byte of an engine's plan is as recorded, before it is used.

    Raises:
        IntegrityError: it is not.
    """
    harm = damage(engine)
    if harm:
        raise IntegrityError(
            f"{harm[0]}; it was not used", "`enginery verify --restore` brings it back"
        )


def _cut(plan: Path, recorded: int) -> str:
    """Whether a plan is missing or has another size."""
    if not plan.is_file():
        return "a folder lies in its place" if plan.is_dir() else "missing"
    size = plan.stat().st_size
    return "" if size == recorded else f"{size} bytes, {recorded} are recorded"
