"""dvc.yaml as a graph: the only list of what there is to do.

A stage says in `desc` what people read and in `meta` its step, model, target, precision or
toolchain. One without `meta` runs, too: it is called what dvc.yaml calls it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.errors import ConfigError, EngineryError
from enginery.project.params import PARAMS_FILE, Spec
from enginery.project.paths import DVC_FILE, RECORDS
from enginery.project.stage import KINDS, Stage

_META = {"step", *KINDS, "around"}
_DEMO = "demo-data"


@dataclass(frozen=True)
class Node:
    """A stage with its place in the graph; `needs` are the addresses of stages whose outputs it
    reads.

    What is `around` the others runs before them, to be restored, and once more after them.
    """

    address: str
    title: str
    stage: Stage
    needs: tuple[str, ...]
    around: bool = False


@dataclass(frozen=True)
class Graph:
    """All stages, each after those that it needs; and every path that DVC keeps, of stages and of
    data that was added by hand.
    """

    nodes: tuple[Node, ...]
    tracked: frozenset[Path] = frozenset()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def stages(self) -> list[Stage]:
        """The stages whose meta names a step of the project's tasks/."""
        return [node.stage for node in self.nodes if node.stage.step]

    def before(self) -> dict[Stage, tuple[Stage, ...]]:
        """For each stage all that come before it on its way."""
        addresses = self.ancestors()
        stages = {node.address: node.stage for node in self.nodes}
        return {
            stages[address]: tuple(stages[each] for each in sorted(earlier))
            for address, earlier in addresses.items()
        }

    def only(self, names: Mapping[str, Collection[str]]) -> Graph:
        """The part that the engines of some models, targets or precisions need.

        `names` are the allowed ones of each kind; of a kind without names, all are.
        """
        asked = {kind: allowed for kind, allowed in names.items() if allowed}
        if not asked:
            return self
        ancestors = self.ancestors()
        chosen = [
            node.address
            for node in self.nodes
            if all(getattr(node.stage, kind) in allowed for kind, allowed in asked.items())
        ]
        kept = {*chosen, *(each for address in chosen for each in ancestors[address])}
        around = {node.address for node in self.nodes if node.around}
        return self._of(kept | around)

    def without(self, addresses: Collection[str]) -> Graph:
        """The rest, without these stages."""
        return self._of({node.address for node in self.nodes} - set(addresses))

    def _of(self, addresses: Collection[str]) -> Graph:
        nodes = tuple(node for node in self.nodes if node.address in addresses)
        return Graph(nodes, self.tracked)

    def ancestors(self) -> dict[str, set[str]]:
        """For each address those of all stages that come before it on its way."""
        ancestors: dict[str, set[str]] = {}
        for node in self.nodes:  # each comes after those that it needs
            known = [need for need in node.needs if need in ancestors]
            further = (each for need in known for each in ancestors[need])
            ancestors[node.address] = {*known, *further}
        return ancestors


def read_graph(repo: Any) -> Graph:
    """The graph of an open DVC repository.

    Raises:
        EngineryError: dvc.yaml has a mistake: a cycle, one output of two stages, a wrong meta.
    """
    from dvc.exceptions import DvcException

    from enginery.pipeline.repository import has_command

    if not DVC_FILE.is_file():
        what = f"{DVC_FILE} is {'no plain file' if DVC_FILE.exists() else 'missing'}"
        raise EngineryError(what, "Take it from git again")
    try:
        graph = repo.index.graph
        stages = [stage for stage in _in_order(graph) if has_command(stage)]
    except DvcException as error:
        raise EngineryError(f"{DVC_FILE}: {_line(error)}", f"Correct {DVC_FILE}") from None
    known = {stage.addressing for stage in stages}
    nodes = [
        _node(stage, {need.addressing for need in graph.successors(stage)} & known)
        for stage in stages
    ]
    tracked = [Path(out.fs_path).relative_to(repo.root_dir) for out in repo.index.outs]
    return Graph(tuple(nodes), frozenset(tracked))


def read_stages(spec: Spec) -> tuple[Graph, list[Stage]]:
    """The graph and its stages, for a process that does nothing else with DVC."""
    from enginery.pipeline.repository import open_repository

    graph = read_graph(open_repository(Path()))
    check_graph(graph, spec)
    return graph, graph.stages()


def check_graph(graph: Graph, spec: Spec) -> None:
    """Make sure that dvc.yaml has the stages that params.yaml asks for.

    Raises:
        ConfigError: it has not, with each mistake.
    """
    wrong = list(_mistakes(graph, spec))
    if wrong:
        raise ConfigError(str(PARAMS_FILE), wrong)


def _mistakes(graph: Graph, spec: Spec) -> Iterator[str]:
    steps = {node.stage.step or node.address for node in graph}
    registered = {
        (node.stage.model, node.stage.target, node.stage.precision)
        for node in graph
        if node.stage.step == "register"
    }
    for step in RECORDS:
        if step not in steps and (step != "calibrate" or spec.int8):
            yield f"{DVC_FILE} has no stage of the step {step}: put it back"
    if "register" in steps:
        for engine in spec.engines():
            if (engine.model, engine.target, engine.precision) not in registered:
                yield f"{DVC_FILE} has no stage that registers {engine}: put `foreach` back"
    if spec.demo and _DEMO not in steps:
        what = f"demo: {DVC_FILE} has no stage {_DEMO} for it"
        yield f"{what}: take this key out, too, or put the stage back"
    if _DEMO in steps and not spec.demo:
        what = f"demo: missing: {DVC_FILE} has the stage {_DEMO}"
        yield f"{what}: take that out, too, or put this key back"
    for name in sorted(spec.time_limit_s.keys() - steps):
        yield f"time_limit_s.{name}: {DVC_FILE} has no such step; it has {', '.join(sorted(steps))}"


def _node(stage: Any, needs: Collection[str]) -> Node:
    meta = stage.meta or {}
    unknown = set(meta) - _META if isinstance(meta, Mapping) else {str(meta)}
    ours = isinstance(meta, Mapping) and "step" in meta
    if ours and unknown:
        what = f"{DVC_FILE}: the meta of {stage.addressing} has {', '.join(sorted(unknown))}"
        raise EngineryError(what, f"Enginery knows {', '.join(sorted(_META))}")
    values = {kind: str(meta.get(kind, "")) for kind in KINDS} if ours else {}
    return Node(
        address=stage.addressing,
        title=" ".join((stage.desc or stage.addressing).split()),
        stage=Stage(str(meta["step"]) if ours else "", **values),
        needs=tuple(sorted(needs)),
        around=ours and bool(meta.get("around")),
    )


def _in_order(graph: Any) -> Iterable[Any]:
    """As dvc.yaml lists them, each after those that it needs."""
    import networkx  # type: ignore[import-untyped]

    places = {stage: index for index, stage in enumerate(graph)}
    return list(networkx.lexicographical_topological_sort(graph.reverse(), key=places.__getitem__))


def _line(error: Exception) -> str:
    """What DVC says, with the places and causes that its own command prints below."""
    from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

    details: list[str] = []
    if isinstance(error, YAMLValidationError):
        wrong = [(".".join(map(str, each.path)), each.error_message) for each in error.exc.errors]
        details = [f"{place}: {what}" if place else what for place, what in wrong]
    elif isinstance(error, YAMLSyntaxError):
        details = [str(error.exc.__cause__ or error.exc)]
    return " ".join(": ".join([str(error), *filter(None, ["; ".join(details)])]).split()).rstrip(
        "."
    )
