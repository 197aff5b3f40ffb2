"""The tables of a run, for the terminal and for Prefect's artifacts: engines and validations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from enginery.errors import DamagedFileError
from enginery.evaluation.engine_report import EngineReport
from enginery.evaluation.reports import ReportRecord
from enginery.project.engine_name import EngineName
from enginery.project.paths import model_folder
from enginery.project.stage import Stage
from enginery.registry.manifest import ValidationRecord
from enginery.registry.records import read_record
from enginery.registry.standing import Standing, build_seconds, standing
from enginery.registry.store import PLAN, Engine, Entry
from enginery.vision.tasks import metric_in

_FAILED = ("Failed", "Skipped")
_NONE = "-"


@dataclass(frozen=True)
class Listed:
    """What is registered under a name, how it stands, and its own build's seconds, if known."""

    entry: Entry
    standing: Standing
    seconds: float | None = None

    @property
    def engine(self) -> Engine | None:
        """The engine; None if it is damaged."""
        return self.entry if isinstance(self.entry, Engine) else None

    @property
    def metric(self) -> str:
        """What its metric is called; empty if it is damaged."""
        return self.engine.manifest.steps.validation.report.title if self.engine else ""

    def summary(self) -> dict[str, Any]:
        """For `enginery list --json`: the same keys for all, null where a manifest is damaged."""
        name, engine = self.entry.identity, self.engine
        manifest = engine.manifest if engine else None
        return {
            "model": name.model,
            "target": name.target,
            "precision": name.precision,
            "runtime": manifest and manifest.runtime,
            "runtime_version": manifest and manifest.runtime_version,
            "compute_capability": manifest and manifest.compute_capability,
            "metrics": manifest and manifest.metrics,
            "state": self.standing.state,
            "reason": self.standing.reason,
            "checked": engine and engine.state,
            "profiles": manifest and manifest.built.shapes,
            "build_seconds": self.seconds,
            "path": (self.entry.folder / PLAN).as_posix(),
            "sha256": manifest and manifest.plan.sha256,
            "bytes": manifest and manifest.plan.bytes,
        }


def listed(entries: Iterable[Entry], asked_for: Collection[EngineName] | None) -> list[Listed]:
    """How all that is registered stands, if these are the engines that params.yaml asks for."""
    return [Listed(entry, standing(entry, asked_for), build_seconds(entry)) for entry in entries]


def engine_rows(
    engines: Iterable[Listed], outcomes: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Engine, GPU generation, size, build time, metric and state.

    Of a run, `outcomes` is what `outcomes_of` says: it is shown with the reason of each state, and
    engines of other machines that are not registered here come last.
    """
    listed = list(engines)
    titles = {engine.metric for engine in listed} - {""}
    title = titles.pop() if len(titles) == 1 else ""
    rows = [_engine_row(engine, title) for engine in listed]
    if outcomes is None:
        return rows
    why = {engine.entry.name: engine.standing.reason for engine in listed}
    absent = {name for name, outcome in outcomes.items() if outcome == "Elsewhere"} - why.keys()
    rows += [_row(name, title, "elsewhere") for name in sorted(absent)]
    return [
        {**row, "this run": outcomes.get(row["engine"], _NONE), "why": why.get(row["engine"], "")}
        for row in rows
    ]


def engine_notes(engines: Iterable[Listed]) -> Iterator[str]:
    """Why engines are not simply candidates or validated, and what to do: each line once."""
    names: dict[Standing, list[str]] = {}
    for engine in engines:
        if engine.standing.reason:
            names.setdefault(engine.standing, []).append(engine.entry.name)
    for state, who in names.items():
        engines_named = who[0] if len(who) == 1 else f"{len(who)} engines"
        yield f"{engines_named}, {state.state}: {state.reason}"
    yield from dict.fromkeys(state.cure for state in names if state.cure)


def outcomes_of(ended: Iterable[tuple[Stage, str]]) -> dict[str, str]:
    """How a run came by each engine: what failed of its steps, else its build or registration."""
    states: dict[str, dict[str, str]] = {}
    for step, state in ended:
        if step.step in ("build", "register"):
            states.setdefault(f"{step.model}/{step.target}/{step.precision}", {})[step.step] = state
    return {
        name: _outcome(steps.get("build", ""), steps.get("register", ""))
        for name, steps in states.items()
    }


def _outcome(build: str, register: str) -> str:
    failed = [state for state in (build, register) if state in _FAILED]
    if failed:
        return failed[0]
    return register if build == "Cached" and register else build or register


def _engine_row(engine: Listed, title: str) -> dict[str, Any]:
    row = _row(engine.entry.name, title, engine.standing.state)
    if not engine.engine:
        return row
    manifest = engine.engine.manifest
    return {
        **row,
        "for": manifest.compute_capability or "any",
        "size": f"{manifest.plan.bytes / 1e6:.1f} MB",
        "build": _NONE if engine.seconds is None else f"{engine.seconds:.1f} s",
        title or "metric": _measured(engine).removesuffix(f" {title}"),
    }


def _row(name: str, title: str, state: str) -> dict[str, Any]:
    columns = ("for", "size", "build", title or "metric")
    return {"engine": name, **dict.fromkeys(columns, _NONE), "state": state}


def _measured(engine: Listed) -> str:
    assert engine.engine is not None
    metrics = engine.engine.manifest.metrics
    return f"{metrics[metric_in(metrics).key]:.4f} {engine.metric}"


def validation_rows(steps: Iterable[Stage]) -> list[dict[str, Any]]:
    """One row for each validated graph."""
    rows = []
    for step in steps:
        if step.step == "validate":
            with suppress(DamagedFileError):  # not validated, and its step says why
                rows.append(_validation_row(step, _validation(step)))
    return rows


def _validation_row(step: Stage, report: ReportRecord) -> dict[str, Any]:
    return {
        "graph": f"{step.model} {step.precision}",
        "metric": f"{report.candidate.value:.4f} {report.title}",
        "FP32 original": f"{report.reference.value:.4f} {report.metric.title}",
        "RMS difference": f"{report.closeness.rms_relative:.1e}",
        "NaN or Inf": report.closeness.nan_count + report.closeness.inf_count,
    }


def _validation(step: Stage) -> ReportRecord:
    path = model_folder(step.model, step.precision) / "validation.json"
    return read_record(path, ValidationRecord).report


def class_metric(step: Stage) -> str:
    """What `class_rows` shows of each class: mAP50-95 or top-1."""
    return _validation(step).title


def class_rows(step: Stage) -> list[dict[str, Any]]:
    """One row for each class of a validated graph, the largest loss first."""
    report = _validation(step)
    before, after = report.reference.per_class, report.candidate.per_class
    lost = {name: before[name] - after.get(name, 0.0) for name in before}
    return [
        {
            "class": name,
            "FP32 original": f"{before[name]:.4f}",
            step.precision: f"{after.get(name, 0.0):.4f}",
            "lost": f"{lost[name]:+.4f}",
        }
        for name in sorted(lost, key=lambda name: -lost[name])
    ]


def latency_row(engine: Engine, report: EngineReport) -> dict[str, Any]:
    """An engine on its GPU: its metric and milliseconds a batch."""
    times, compared = report.timing, report.report
    return {
        "engine": engine.name,
        "metric": f"{compared.candidate.value:.4f} {compared.title}",
        "FP32 original": f"{compared.reference.value:.4f} {compared.metric.title}",
        "p50": f"{times.gpu.p50:.2f} ms",
        "p90": f"{times.gpu.p90:.2f} ms",
        "p99": f"{times.gpu.p99:.2f} ms",
        "with transfers": f"{times.with_transfers.p50:.2f} ms",
        "CUDA graph": f"{times.cuda_graph.p50:.2f} ms" if times.cuda_graph else _NONE,
        "state": engine.state,
    }
