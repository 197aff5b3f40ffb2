"""The manifest beside a plan: all that made the engine and how it was checked.

Sorted JSON with a schema version; no times and no paths of a machine. `compose` makes one;
`read_manifest` reads one and believes nothing in it that its own records deny.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from enginery.errors import DamagedFileError
from enginery.evaluation.reports import ReportRecord, ToleranceRecord, refusals
from enginery.project.engine_name import EngineName
from enginery.project.values import Precision, Runtime
from enginery.registry.built import BuildParameters, BuildRecord
from enginery.registry.records import Count, Record, Sha256, StepRecord, read_record
from enginery.vision.tasks import Judging, Task, metric_in

Index = Annotated[str, StringConstraints(pattern=r"^\d+$")]
SCHEMA = 1  # to be raised when a key changes its meaning: older manifests are then damaged


class Source(Record):
    """What was exported."""

    source: str


class ExportRecord(StepRecord[Source]):
    """The FP32 original."""

    task: Task
    stride: int
    names: Mapping[Index, str]
    kpt_shape: tuple[int, int] | None = None
    source_sha256: Sha256


class CountingParameters(Record):
    """How images became ranges."""

    algorithm: str


class CalibrationParameters(Record):
    """Images or a cache; a cache's ranges are there already."""

    calibration: str
    counting: CountingParameters | None = None


class CalibrationRecord(StepRecord[CalibrationParameters]):
    """Where INT8's ranges are from."""

    images: Count
    images_sha256: Sha256
    cache_sha256: Sha256 | None = None
    own_quantization: bool


class QuantizeRecord(StepRecord[Mapping[str, Any]]):
    """The typed graph."""

    sha256: Sha256
    calibration: CalibrationRecord | None = None
    quantized: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


class ValidationParameters(Record):
    """What the graph was compared on; how, where that is not Ultralytics' way."""

    validation: str
    judging: Mapping[str, Any] | None = None


class ValidationRecord(StepRecord[ValidationParameters]):
    """The typed graph against the FP32 original."""

    report: ReportRecord
    images: Count
    images_sha256: Sha256


class Steps(Record):
    """What every step wrote down."""

    export: ExportRecord
    simplify: StepRecord[Mapping[str, Any]]
    quantize: QuantizeRecord
    validation: ValidationRecord = Field(alias="validate")
    build: BuildRecord
    registration: StepRecord[ToleranceRecord] = Field(alias="register")


class PlanRecord(Record):
    """The plan's bytes."""

    sha256: Sha256
    bytes: Count
    weights_sha256: Sha256 | None


class Manifest(Record):
    """All that made an engine and how it was checked."""

    schema_: Literal[1] = Field(alias="schema")
    model: str
    target: str
    precision: Precision
    runtime: Runtime
    runtime_version: str
    compute_capability: str | None
    gpu: str | None
    platform: str
    plan: PlanRecord
    metrics: Mapping[str, float]
    digests: Mapping[str, str]
    steps: Steps

    @property
    def name(self) -> EngineName:
        """Which engine it describes."""
        return EngineName(self.model, self.target, self.precision)

    @property
    def built(self) -> BuildParameters:
        """The parameters that the plan was built with."""
        return self.steps.build.recipe.parameters

    @property
    def judging(self) -> Judging:
        """How images become its input, and how its outputs were judged."""
        given = self.steps.validation.recipe.parameters.judging
        return TypeAdapter(Judging).validate_python(given or {})

    @property
    def tolerance(self) -> ToleranceRecord:
        """The tolerance that the engine was registered with."""
        return self.steps.registration.recipe.parameters

    @model_validator(mode="after")
    def _agrees_with_its_records(self) -> Self:
        build, report = self.steps.build, self.steps.validation.report
        if (self.plan.sha256, self.plan.bytes) != (build.plan_sha256, build.plan_bytes):
            raise ValueError("its plan is not the one that its build wrote down")
        if self.metrics != _metrics(report.to_json()):
            raise ValueError("its metrics are not those that its validation wrote down")
        failed = refusals(report, self.tolerance)
        if failed:
            raise ValueError(f"its own numbers fail its tolerance: {failed[0]}")
        return self


def read_manifest(path: Path, name: EngineName) -> Manifest:
    """The manifest of an engine.

    Raises:
        DamagedFileError: it is missing, not whole, or that of another engine.
    """
    manifest = read_record(path, Manifest)
    if manifest.name != name:
        raise DamagedFileError(path, f"is that of {manifest.name}")
    return manifest


def compose(name: EngineName, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest of an engine from its steps' records: export, simplify, quantize, validate,
    build, register, and those of a project's own steps.
    """
    build = records["build"]
    target = build["recipe"]["parameters"]
    return {
        "schema": SCHEMA,
        "model": name.model,
        "target": name.target,
        "precision": name.precision,
        "runtime": target["runtime"],
        "runtime_version": target["runtime_version"],
        "compute_capability": target["compute_capability"],
        "gpu": target.get("gpu"),
        "platform": target["platform"],
        "plan": {
            "sha256": build["plan_sha256"],
            "bytes": build["plan_bytes"],
            "weights_sha256": build["weights_sha256"],
        },
        "metrics": _metrics(records["validate"]["report"]),
        "digests": {
            **_calibration(records["quantize"], build),
            "source": records["export"]["source_sha256"],
            "graph": build["graph_sha256"],
            "validation_images": records["validate"]["images_sha256"],
        },
        "steps": records,
    }


def _metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """map50_95, map50 and reference_map50_95, or the same of top1 and top5; and rms_relative."""
    metric, found = metric_in(report["reference"]), report["candidate"]
    return {
        metric.key: found[metric.key],
        metric.secondary: found[metric.secondary],
        f"reference_{metric.key}": report["reference"][metric.key],
        "rms_relative": report["closeness"]["rms_relative"],
    }


def _calibration(quantize: Mapping[str, Any], build: Mapping[str, Any]) -> dict[str, str]:
    found = quantize.get("calibration", {})
    if "native_cache" in build:  # TensorRT's own ranges made the plan, not ours
        own = hashlib.sha256(build["native_cache"].encode()).hexdigest()
        return {"calibration_images": found["images_sha256"], "calibration_cache": own}
    digests = {
        "calibration_images": found.get("images_sha256"),
        "calibration_cache": found.get("cache_sha256"),
    }
    return {name: digest for name, digest in digests.items() if digest}
