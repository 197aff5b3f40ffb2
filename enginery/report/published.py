"""The team's registry for people and for programs: the newest version of each engine, and what
serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enginery.project.engine_name import EngineName
from enginery.registries.interface import StageEvent, newest, serving
from enginery.registry.published import PublishedEngine


def summaries(
    engines: Sequence[PublishedEngine], events: Sequence[StageEvent]
) -> list[dict[str, Any]]:
    """For `--json`: every engine's newest version, and the versions that serve, by stage."""
    serves = _stages(events)
    return [
        {
            **engine.to_json(),
            "state": engine.state,
            "stages": {stage: served[name] for stage, served in serves.items() if name in served},
        }
        for name, engine in sorted(newest(engines).items())
    ]


def rows(engines: Sequence[PublishedEngine], events: Sequence[StageEvent]) -> list[dict[str, Any]]:
    """The same as a table, a column for each stage."""
    serves = _stages(events)
    return [
        {
            "engine": str(name),
            "newest": f"v{engine.version}",
            "state": engine.state,
            "for": made_for(engine),
            "size": f"{engine.plan_bytes / 1e6:.1f} MB",
            **{
                stage: f"v{served[name]}" if name in served else "-"
                for stage, served in serves.items()
            },
        }
        for name, engine in sorted(newest(engines).items())
    ]


def made_for(engine: PublishedEngine) -> str:
    """What an engine runs on: tensorrt 10.16.1.11, 9.0 NVIDIA H200, linux_x86_64."""
    card = " ".join(filter(None, (engine.compute_capability or "any GPU", engine.gpu)))
    return f"{engine.runtime} {engine.runtime_version}, {card}, {engine.platform}"


def _stages(events: Sequence[StageEvent]) -> Mapping[str, Mapping[EngineName, int]]:
    return {
        stage: {name: event.version for name, event in serving(events, stage).items()}
        for stage in sorted({event.stage for event in events})
    }
