"""The tables of a run, for the terminal and for Prefect's artifacts: engines, and graph validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from enginery.evaluation.head import metric_in
from enginery.files import read_json
from enginery.layout import Step, build_folder, model_folder
from enginery.registry import Engine


def engine_rows(engines: Iterable[Engine], outcomes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Engine, size, build time, metric, state, and how this run came by it; `outcomes` maps engine names to build states.

    Those for other machines that are not registered here come last.
    """
    found = list(engines)
    titles = {metric_in(engine.manifest["metrics"]).title for engine in found}
    title = titles.pop() if len(titles) == 1 else ""
    absent = {name for name, outcome in outcomes.items() if outcome == "Elsewhere"} - {engine.name for engine in found}
    rows = [_engine_row(engine, outcomes.get(engine.name, ""), title) for engine in found]
    return [*rows, *(_absent_row(name, title) for name in sorted(absent))]


def _absent_row(name: str, title: str) -> dict[str, Any]:
    return {"engine": name, "for": "-", "size": "-", "build": "-", title or "metric": "-", "state": "elsewhere", "this run": "Elsewhere"}


def _engine_row(engine: Engine, outcome: str, title: str) -> dict[str, Any]:
    manifest = engine.manifest
    measured = build_folder(manifest["model"], manifest["target"], manifest["precision"]) / "measured.json"
    seconds = f"{read_json(measured)['seconds']:.1f} s" if measured.is_file() else "-"
    capability = manifest["compute_capability"] or "any"
    row = {
        "engine": engine.name,
        "for": capability,
        "size": f"{manifest['plan']['bytes'] / 1e6:.1f} MB",
        "build": seconds,
        title or "metric": _measured(manifest["metrics"]).removesuffix(f" {title}"),
        "state": engine.state,
    }
    return {**row, "this run": outcome} if outcome else row


def _measured(metrics: Mapping[str, Any]) -> str:
    metric = metric_in(metrics)
    return f"{metrics[metric.key]:.4f} {metric.title}"


def validation_rows(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """One row for each validated graph."""
    rows = []
    for step in steps:
        path = model_folder(step.model, step.precision) / "validation.json"
        if step.name == "validate" and path.is_file():
            report = read_json(path)["report"]
            rows.append({
                "graph": f"{step.model} {step.precision}",
                "metric": _measured(report["candidate"]),
                "FP32 original": _measured(report["reference"]),
                "RMS difference": f"{report['closeness']['rms_relative']:.1e}",
                "NaN or Inf": report["closeness"]["nan_count"] + report["closeness"]["inf_count"],
            })
    return rows


def class_metric(step: Step) -> str:
    """What `class_rows` shows of each class: mAP50-95 or top-1."""
    return metric_in(read_json(model_folder(step.model, step.precision) / "validation.json")["report"]["reference"]).title


def class_rows(step: Step) -> list[dict[str, Any]]:
    """One row for each class of a validated graph, the largest loss first."""
    report = read_json(model_folder(step.model, step.precision) / "validation.json")["report"]
    before, after = report["reference"]["per_class"], report["candidate"]["per_class"]
    lost = {name: before[name] - after.get(name, 0.0) for name in before}
    return [
        {"class": name, "FP32 original": f"{before[name]:.4f}", step.precision: f"{after.get(name, 0.0):.4f}", "lost": f"{lost[name]:+.4f}"}
        for name in sorted(lost, key=lambda name: -lost[name])
    ]


def latency_row(engine: Engine, report: Mapping[str, Any]) -> dict[str, Any]:
    """An engine on its GPU: its metric and milliseconds a batch."""
    times, compared = report["timing"], report["report"]
    graph = times.get("cuda_graph")
    return {
        "engine": engine.name,
        "metric": _measured(compared["candidate"]),
        "FP32 original": _measured(compared["reference"]),
        "p50": f"{times['gpu']['p50']:.2f} ms",
        "p90": f"{times['gpu']['p90']:.2f} ms",
        "p99": f"{times['gpu']['p99']:.2f} ms",
        "with transfers": f"{times['with_transfers']['p50']:.2f} ms",
        "CUDA graph": f"{graph['p50']:.2f} ms" if graph else "-",
        "state": engine.state,
    }
