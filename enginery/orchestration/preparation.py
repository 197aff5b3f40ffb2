"""What a run works with: its part of the graph, and how its stages ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State

from enginery.errors import ConfigError, EngineryError
from enginery.orchestration.room import default_jobs
from enginery.pipeline import Pipeline, open_project
from enginery.pipeline.graph import Graph
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.project.preflight import doubts
from enginery.report.display import Display, Outcome
from enginery.toolchain.selection import Toolchains, absent


@dataclass(frozen=True)
class Selection:
    """Which engines a run brings up to date: of these models, targets and
    precisions; empty: all.
    """

    models: Collection[str] = ()
    targets: Collection[str] = ()
    precisions: Collection[str] = ()

    def part_of(self, graph: Graph, spec: Spec) -> Graph:
        """The stages that these engines need.

        Raises:
            ConfigError: a name that params.yaml does not build.
        """
        engines = spec.engines()
        asked = {"model": self.models, "target": self.targets, "precision": self.precisions}
        mistakes = []
        for kind, names in asked.items():
            known = list(dict.fromkeys(getattr(engine, kind) for engine in engines))
            mistakes += [
                f"--{kind} {name}: not in params.yaml's matrix, which has {', '.join(known)}"
                for name in names
                if name not in known
            ]
        if mistakes:
            raise ConfigError("what to build", mistakes)
        return graph.only(asked)


@dataclass
class Run:
    """What a run works with, and how its stages ended, by address.

    `graph` are its own stages, `whole` are all: the recipes of the others stay.
    """

    spec: Spec
    toolchains: Toolchains
    pipeline: Pipeline
    whole: Graph
    graph: Graph
    display: Display
    jobs: int
    target_is_explicit: bool  # then it must be for this machine
    excluded: dict[str, EngineryError] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    states: dict[str, State[Any]] = field(default_factory=dict)

    @property
    def targets(self) -> frozenset[str]:
        """The targets whose engines it brings up to date."""
        return frozenset(node.stage.target for node in self.graph if node.stage.target)


def prepare(selection: Selection, jobs: int | None, display: Display) -> Run:
    """Read params.yaml and dvc.yaml, and check both.

    Raises:
        ConfigError, EngineryError: one of them has mistakes.
    """
    spec = load_spec()
    toolchains = Toolchains(spec)
    known = spec.used_targets()
    with toolchains.answering([name for name in known if name in selection.targets] or known):
        pipeline, graph = open_project(spec)
    for doubt in doubts(spec, graph.tracked):
        display.warn(doubt)
    missing = absent(spec)
    part = selection.part_of(graph, spec)
    there = part.without([node.address for node in part if node.stage.toolchain in missing])
    return Run(
        spec=spec,
        toolchains=toolchains,
        pipeline=pipeline,
        whole=graph,
        graph=there,
        display=display,
        jobs=jobs or default_jobs(),
        target_is_explicit=bool(selection.targets),
    )
