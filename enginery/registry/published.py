"""An engine in the team's registry: one version of it, with all that is needed to choose one.

It is made from the manifest and the report that are published with the engine. Who pulls the engine
compares them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from enginery.project.engine_name import NAME, EngineName
from enginery.project.values import Precision
from enginery.registry.records import Above0, Count, Positive, Record, Sha256
from enginery.registry.store import MANIFEST, Engine
from enginery.system.files import sha256

Name = Annotated[str, StringConstraints(pattern=NAME)]
STATES = ("candidate", "validated")


class Contents(Record):
    """What an engine is, and the digests of its files."""

    model: Name
    target: Name
    precision: Precision
    validated: bool
    runtime: str
    runtime_version: str
    platform: str
    compute_capability: str | None
    gpu: str | None
    version_compatible: bool
    hardware_compatible: bool
    milliseconds: Above0 | None
    plan_sha256: Sha256
    plan_bytes: Count
    manifest_sha256: Sha256
    report_sha256: Sha256 | None

    @property
    def name(self) -> EngineName:
        """Which engine it is."""
        return EngineName(self.model, self.target, self.precision)

    def differences(self, other: Contents) -> list[str]:
        """Which keys another one has otherwise."""
        mine = {key: getattr(self, key) for key in Contents.model_fields}
        return [key for key, value in mine.items() if getattr(other, key) != value]

    @property
    def state(self) -> str:
        """candidate: its graph passed; validated: it ran on its own GPU and passed."""
        return STATES[self.validated]


class PublishedEngine(Contents):
    """A version of an engine in a registry; `reference` is the back end's own."""

    version: Positive
    signed: bool
    reference: Annotated[str, Field(min_length=1)]

    @property
    def title(self) -> str:
        """What a person reads: yolov8n/rtx-ada/fp16 v3."""
        return f"{self.name} v{self.version}"

    @property
    def short_title(self) -> str:
        """The same among engines of one model: rtx-ada/fp16 v3."""
        return f"{self.target}/{self.precision} v{self.version}"


def contents_of(engine: Engine, report: Path) -> Contents:
    """What is published of an engine, from its files: a report that does not count is left out."""
    manifest, built = engine.manifest, engine.built
    checked = engine.check_report(report).report
    return Contents(
        model=engine.model,
        target=engine.target,
        precision=manifest.precision,
        validated=checked is not None,
        runtime=manifest.runtime,
        runtime_version=manifest.runtime_version,
        platform=manifest.platform,
        compute_capability=manifest.compute_capability,
        gpu=manifest.gpu,
        version_compatible=built.version_compatible,
        hardware_compatible=built.hardware_compatible,
        milliseconds=checked.timing.gpu.p50 if checked else None,
        plan_sha256=manifest.plan.sha256,
        plan_bytes=manifest.plan.bytes,
        manifest_sha256=sha256(engine.folder / MANIFEST),
        report_sha256=sha256(report) if checked else None,
    )
