"""A registered engine without a build, and the report that makes it `validated`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginery.project.paths import engine_folder
from enginery.project.stage import Stage
from enginery.registry.manifest import compose
from enginery.registry.store import Engine, engine_in, publish
from enginery.system.files import read_json, sha256, write_json

DIGEST = "0" * 64
GPU = {
    "gpu": "Card",
    "uuid": "GPU-1",
    "compute_capability": "9.0",
    "memory_mib": 81920,
    "driver_cuda": "13.0",
    "driver": "580.1",
}
Place = tuple[int, str, int]  # a profile, which of its shapes, and the batch there


def metrics(value: float) -> dict[str, Any]:
    return {"map50_95": value, "map50": value, "per_class": {"disc": value}}


def closeness(rms: float = 0.001) -> dict[str, Any]:
    return {"max_abs": 0.1, "rms_relative": rms, "nan_count": 0, "inf_count": 0}


def compared(value: float = 0.5, rms: float = 0.001) -> dict[str, Any]:
    """The numbers of a graph or an engine against an original of 0.5."""
    return {"closeness": closeness(rms), "reference": metrics(0.5), "candidate": metrics(value)}


def recipe(step: str, **parameters: Any) -> dict[str, Any]:
    return {"step": step, "version": 1, "tools": {"tool": "1.0"}, "parameters": parameters}


def profile(*batches: int) -> dict[str, list[int]]:
    return {
        which: [batch, 3, 160, 160]
        for which, batch in zip(("min", "opt", "max"), batches, strict=True)
    }


def records(plan: Path, **built: Any) -> dict[str, Any]:
    """What every step wrote of an engine; `built` are further parameters of its build."""
    return records_of(sha256(plan), plan.stat().st_size, **built)


def records_of(digest: Any, size: Any, **built: Any) -> dict[str, Any]:
    """As `records`, for a plan of this digest and size."""
    parameters = {
        "runtime": "tensorrt",
        "runtime_version": "10.16.1.11",
        "platform": "linux_x86_64",
        "compute_capability": "9.0",
        "gpu": "Card",
        "profile": profile(1, 1, 1),
        **built,
    }
    return {
        "export": {
            "recipe": recipe("export", source="m.pt", batch=1),
            "task": "detect",
            "stride": 32,
            "names": {"0": "disc"},
            "source_sha256": DIGEST,
        },
        "simplify": {"recipe": recipe("simplify"), "simplified": True},
        "quantize": {"recipe": recipe("quantize"), "sha256": DIGEST},
        "validate": {
            "recipe": recipe("validate", validation="data/images"),
            "report": compared(),
            "images": 4,
            "images_sha256": DIGEST,
        },
        "build": {
            "recipe": recipe("build", **parameters),
            "plan_sha256": digest,
            "plan_bytes": size,
            "weights_sha256": None,
            "graph_sha256": DIGEST,
            "runtime_version": "10.16.1.11",
            "messages": [],
        },
        "register": {"recipe": recipe("register", map50_95_drop=0.01, rms_relative=0.02)},
    }


def register(name: str, root: Path = Path(), **built: Any) -> Engine:
    """Register an engine called model/target/precision below `root`."""
    plan = root / "some.plan"
    plan.parent.mkdir(parents=True, exist_ok=True)
    plan.write_bytes(b"plan" * 100)
    return enter(name, plan, records(plan, **built), root)


def enter(name: str, plan: Path, made_of: Mapping[str, Any], root: Path = Path()) -> Engine:
    """Put a plan with its steps' records into the registry below `root`."""
    model, target, precision = name.split("/")
    folder = root / engine_folder(model, target, precision)
    publish(plan, compose(Stage("register", model, target, precision), made_of), folder)
    engine = engine_in(folder)
    assert engine
    return engine


def times(p50: float = 1.0, p90: float | None = None) -> dict[str, Any]:
    slow = p50 * 1.1 if p90 is None else p90
    return {
        "mean": p50,
        "min": p50 / 2,
        "max": slow * 2,
        "p50": p50,
        "p90": slow,
        "p99": slow,
        "runs": 10,
    }


def timing(alone: float = 1.0, graph: float | None = None) -> dict[str, Any]:
    """Times of an engine, kernel by kernel and, where it can be captured, as a CUDA graph."""
    captured = None if graph is None else times(graph)
    return {
        "gpu": times(alone),
        "with_transfers": times(alone),
        "cuda_graph": captured,
        "images_per_second": 1000 / alone,
    }


def report(engine: Engine, *places: Place, **changes: Any) -> dict[str, Any]:
    """A report with which an engine is `validated`."""
    compare = changes.get("report", compared())
    timed = changes.get("timing", timing())
    points = [
        {
            "profile": index,
            "which": which,
            "shape": [batch, 3, 160, 160],
            "closeness": compare["closeness"],
            "timing": timed if which == "opt" else None,
        }
        for index, which, batch in places or [(0, "opt", 1)]
    ]
    found: dict[str, Any] = json.loads(
        json.dumps(
            {  # nothing in it is shared
                "plan_sha256": engine.manifest.plan.sha256,
                "report": compare,
                "timing": timed,
                "points": points,
                "gpu": GPU,
                "clocks": [{"sm": 1980, "memory": None, "celsius": 40, "watts": 120.0}],
                "tolerance": {"map50_95_drop": 0.01, "rms_relative": 0.02},
                "failures": [],
                **changes,
            }
        )
    )
    return found


def change_manifest(folder: Path, **changes: Any) -> None:
    """Make an engine one of another model, target, runtime or GPU, in all places that say so."""
    path = folder / "manifest.json"
    manifest = read_json(path)
    parameters = manifest["steps"]["build"]["recipe"]["parameters"]
    parameters.update(
        {key: value for key, value in changes.items() if key not in ("model", "target")}
    )
    write_json(path, {**manifest, **changes})
