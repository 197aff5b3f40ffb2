"""How two engines differ: in what made them, step by step, and in what they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from enginery.project.differences import Leaf, leaves
from enginery.registry.standing import made_of, readable
from enginery.registry.store import Engine
from enginery.vision.tasks import metric_in

_NAMED_LAYERS = 8


@dataclass(frozen=True)
class EngineDifference:
    """What differs: of each step's recipe, of the digests of what went in, of size, accuracy and
    times; and the layers that are in INT8 in one engine only.
    """

    names: tuple[str, str]
    same_plan: bool
    recipes: Mapping[str, tuple[Leaf, ...]]  # by step
    digests: tuple[Leaf, ...]
    results: tuple[Leaf, ...]
    int8_only_in: tuple[tuple[str, ...], tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """For `enginery diff --json`."""
        return asdict(self)

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """Headings with their lines, for people."""
        for step, changed in self.recipes.items():
            yield step, list(map(str, changed))
        if self.digests:
            yield "went in", [f"another {leaf.name.replace('_', ' ')}" for leaf in self.digests]
        for name, layers in zip(self.names, self.int8_only_in, strict=True):
            if layers:
                yield "INT8", [f"only in {name}: {_some(layers)}"]
        if self.results:
            yield "result", list(map(_result, self.results))


def compare(one: Engine, other: Engine, names: tuple[str, str]) -> EngineDifference:
    """How `other` differs from `one`; `names` are what people call them."""
    both = one.manifest, other.manifest
    return EngineDifference(
        names=names,
        same_plan=both[0].plan.sha256 == both[1].plan.sha256,
        recipes=dict(_recipes(one, other)),
        digests=tuple(leaves(both[0].digests, both[1].digests)),
        results=tuple(leaves(_results(one), _results(other))),
        int8_only_in=_int8_only_in(one, other),
    )


def _recipes(one: Engine, other: Engine) -> Iterator[tuple[str, tuple[Leaf, ...]]]:
    before, after = (
        {stage.step: readable(record.recipe) for stage, record in made_of(engine)}
        for engine in (one, other)
    )
    for step in dict.fromkeys([*before, *after]):
        if changed := tuple(leaves(before.get(step), after.get(step))):
            yield step, changed


def _results(engine: Engine) -> dict[str, float | str]:
    """What an engine is and does, in numbers."""
    manifest, check = engine.manifest, engine.gpu_check.report
    metric = metric_in(manifest.metrics)
    times = check.timing.gpu if check else None
    measured = {"p50 ms": times.p50, "p90 ms": times.p90, "p99 ms": times.p99} if times else {}
    return {
        "state": engine.state,
        "MB": round(manifest.plan.bytes / 1e6, 1),
        metric.title: round(manifest.metrics[metric.key], 4),
        f"{metric.title} of FP32": round(manifest.metrics[f"reference_{metric.key}"], 4),
        "RMS difference": float(f"{manifest.metrics['rms_relative']:.2g}"),
        **measured,
    }


def _int8_only_in(one: Engine, other: Engine) -> tuple[tuple[str, ...], tuple[str, ...]]:
    before, after = (set(each.manifest.steps.quantize.quantized) for each in (one, other))
    return tuple(sorted(before - after)), tuple(sorted(after - before))


def _some(layers: tuple[str, ...]) -> str:
    more = len(layers) - _NAMED_LAYERS
    shown = ", ".join(layers[:_NAMED_LAYERS])
    return f"{len(layers)} layers: {shown}{f' and {more} more' if more > 0 else ''}"


def _result(leaf: Leaf) -> str:
    """A number with how much more or less it is."""
    numbers = isinstance(leaf.old, float) and isinstance(leaf.new, float) and leaf.old
    return f"{leaf} ({leaf.new / leaf.old - 1:+.1%})" if numbers else str(leaf)
