"""What a run would do on this machine, without doing it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from enginery.errors import EngineryError
from enginery.pipeline import open_project
from enginery.pipeline.fingerprint import NAME as FINGERPRINT
from enginery.pipeline.fingerprint import fingerprint
from enginery.pipeline.graph import Graph, Node
from enginery.pipeline.staleness import explain
from enginery.project.engine_name import EngineName
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.system.checkout_lock import checkout_lock
from enginery.toolchain.selection import Toolchains, absent


@dataclass(frozen=True)
class Overview:
    """The targets that are not for this machine, each with the reason; of the stages that are, why
    some are stale, by title, and how many there are. Of each engine that this machine builds, the
    titles of the stale stages that it needs.
    """

    excluded: Mapping[str, EngineryError]
    stale: Mapping[str, str]
    count: int
    engines: Mapping[EngineName, tuple[str, ...]]


def overview(targets: Collection[str] | None = None) -> Overview:
    """Ask DVC about every stage, or about those that engines for some targets need.

    Raises:
        EngineryError: params.yaml or dvc.yaml has mistakes, a target is none of params.yaml's, or a
            run is at work.
    """
    spec = load_spec()
    _check_targets(spec, targets)
    toolchains = Toolchains(spec)
    with checkout_lock():  # it writes recipes, which a run at work reads
        with toolchains.answering(targets or spec.used_targets()):
            pipeline, graph = open_project(spec)
        excluded = fingerprint(spec, graph.stages(), targets, graph.before(), toolchains)
        missing = absent(spec)
        nodes = [
            node
            for node in (graph.only({"target": targets}) if targets else graph)
            if node.stage.step != FINGERPRINT
            and node.stage.target not in excluded
            and node.stage.toolchain not in missing
        ]
        stale = {
            node.title: explain(node.stage, reason)
            for node in nodes
            if (reason := pipeline.stale(node.address))
        }
        pipeline.close()
    return Overview(excluded, stale, len(nodes), _engines(graph, nodes, stale))


def _check_targets(spec: Spec, targets: Collection[str] | None) -> None:
    unknown = sorted(set(targets or ()) - set(spec.used_targets()))
    if unknown:
        what = f"--target {unknown[0]}: not in params.yaml's matrix"
        raise EngineryError(what, f"It has {', '.join(spec.used_targets())}")


def _engines(
    graph: Graph, nodes: Sequence[Node], stale: Mapping[str, str]
) -> Mapping[EngineName, tuple[str, ...]]:
    ancestors = graph.ancestors()
    engines = {}
    for node in nodes:
        stage = node.stage
        if stage.step == "register":
            needed = {node.address, *ancestors[node.address]}
            titles = tuple(
                each.title for each in nodes if each.address in needed and each.title in stale
            )
            engines[EngineName(stage.model, stage.target, stage.precision)] = titles
    return engines
