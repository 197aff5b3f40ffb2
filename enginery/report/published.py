"""The team's registry for people and for programs: the newest version of each engine, and what
serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enginery.project.engine_name import EngineName
from enginery.registries.interface import newest
from enginery.registry.published import PublishedEngine

Stages = Mapping[str, Mapping[EngineName, int]]


def summaries(engines: Sequence[PublishedEngine], stages: Stages) -> list[dict[str, Any]]:
    """For `--json`: every engine's newest version, and the versions that serve, by stage."""
    return [
        {
            **engine.to_json(),
            "state": engine.state,
            "stages": {stage: served[name] for stage, served in stages.items() if name in served},
        }
        for name, engine in sorted(newest(engines).items())
    ]


def engine_rows(engines: Sequence[PublishedEngine], stages: Stages) -> list[dict[str, Any]]:
    """A row for each engine of a model, a column for each stage."""
    return [
        {
            "engine": f"{name.target}/{name.precision}",
            "newest": f"v{engine.version}",
            "state": engine.state,
            "for": _made_for(engine),
            "size": f"{engine.plan_bytes / 1e6:.1f} MB",
            **{
                stage: f"v{served[name]}" if name in served else "-"
                for stage, served in stages.items()
            },
        }
        for name, engine in sorted(newest(engines).items())
    ]


def model_rows(engines: Sequence[PublishedEngine], stages: Stages) -> list[dict[str, Any]]:
    """A row for each model: how many engines it has, and how many serve in each stage."""
    models: dict[str, list[PublishedEngine]] = {}
    for engine in newest(engines).values():
        models.setdefault(engine.model, []).append(engine)
    return [
        {
            "model": model,
            "engines": len(own),
            "validated": sum(engine.validated for engine in own),
            **{
                stage: sum(engine.name in served for engine in own)
                for stage, served in stages.items()
            },
        }
        for model, own in sorted(models.items())
    ]


def _made_for(engine: PublishedEngine) -> str:
    """What an engine runs on: tensorrt 10.16.1.11, 9.0 NVIDIA H200, linux_x86_64."""
    card = " ".join(filter(None, (engine.compute_capability or "any GPU", engine.gpu)))
    return f"{engine.runtime} {engine.runtime_version}, {card}, {engine.platform}"
