"""What a run would do on this machine, without doing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from enginery.errors import EngineryError
from enginery.pipeline import open_project
from enginery.pipeline.fingerprint import NAME as FINGERPRINT
from enginery.pipeline.fingerprint import fingerprint
from enginery.pipeline.staleness import explain
from enginery.project.load import load_spec
from enginery.system.checkout_lock import checkout_lock
from enginery.toolchain.selection import Toolchains, absent


@dataclass(frozen=True)
class Overview:
    """The targets that are not for this machine, each with the reason; of the stages that are, why
    some are stale, by title, and how many there are.
    """

    excluded: Mapping[str, EngineryError]
    stale: Mapping[str, str]
    count: int


def overview() -> Overview:
    """Ask DVC about every stage.

    Raises:
        EngineryError: params.yaml or dvc.yaml has mistakes, or a run is at work.
    """
    spec = load_spec()
    toolchains = Toolchains(spec)
    with checkout_lock():  # it writes recipes, which a run at work reads
        with toolchains.answering(spec.used_targets()):
            pipeline, graph = open_project(spec)
        excluded = fingerprint(spec, graph.stages(), None, graph.before(), toolchains)
        missing = absent(spec)
        nodes = [
            node
            for node in graph
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
    return Overview(excluded, stale, len(nodes))
