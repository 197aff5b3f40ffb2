"""A host that serves: its GPUs, the runtimes on it, and whether an engine runs there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from enginery.registry.published import Contents
from enginery.registry.store import Cards

_LAST = float("inf")
_PRECISIONS = ("fp16", "int8", "fp32")  # which is tried first where no engine was timed


@dataclass(frozen=True)
class Card:
    """A GPU of a host; its name may be unknown."""

    compute_capability: str
    name: str = ""

    def __str__(self) -> str:
        if self.name:
            return f"{self.name} ({self.compute_capability})"
        return f"compute capability {self.compute_capability}"


@dataclass(frozen=True)
class InstalledRuntime:
    """A runtime of a host, with as much of its version as is known."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Host:
    """What a host is; `notes` are for people: driver, CUDA, a Jetson's board and L4T."""

    platform: str
    cards: tuple[Card, ...]
    runtimes: tuple[InstalledRuntime, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        cards = ", ".join(map(str, self.cards)) or "no GPU"
        runtimes = ", ".join(map(str, self.runtimes)) or "no TensorRT"
        return "; ".join([cards, runtimes, self.platform, *self.notes])


def misfits(engine: Contents, host: Host) -> list[str]:
    """Why an engine does not run on a host; empty if it does."""
    return list(_misfits(engine, host))


def rank(engine: Contents, host: Host) -> tuple[float, ...]:
    """The order of engines that run on a host: the best is the least.

    Exact before compatible, validated before candidates, fast before slow.
    """
    return (
        min(_distance(engine, card) for card in host.cards),
        float(not any(_is_same(engine, each) for each in host.runtimes)),
        float(not engine.validated),
        engine.milliseconds or _LAST,
        float(_PRECISIONS.index(engine.precision)),
    )


def closeness(engine: Contents, host: Host) -> str:
    """How well an engine that runs on a host fits it, in words."""
    card, runtime, *_ = rank(engine, host)
    words = ("exact", "exact", "portable", "hardware compatible")[int(card)]
    return f"{words}, version compatible" if runtime else words


def _misfits(engine: Contents, host: Host) -> Iterator[str]:
    if engine.platform != host.platform:
        yield f"it is for {engine.platform}"
    if not any(_loads(engine, each) for each in host.runtimes):
        later = " or later" if engine.version_compatible else ""
        yield f"it needs {engine.runtime} {engine.runtime_version}{later}"
    if not any(_runs(engine, card) for card in host.cards):
        yield f"it is for {_cards(engine)}"


def _cards(engine: Contents) -> str:
    if engine.hardware_compatible:
        return "compute capability 8.0 and later"
    if engine.compute_capability is None:
        return "any GPU"
    return str(Card(engine.compute_capability, engine.gpu or ""))


def _runs(engine: Contents, card: Card) -> bool:
    cards = Cards(engine.compute_capability, engine.gpu, engine.hardware_compatible)
    return cards.include(card.compute_capability, card.name)


def _distance(engine: Contents, card: Card) -> float:
    """How far an engine is from being made for a card."""
    if not _runs(engine, card):
        return _LAST
    if engine.hardware_compatible:
        return 3
    if engine.compute_capability is None:
        return 2
    return 0 if engine.gpu else 1


def _is_same(engine: Contents, runtime: InstalledRuntime) -> bool:
    """Whether a runtime is the one that built an engine, as far as its version is known."""
    parts = runtime.version.split(".")
    same = engine.runtime_version.split(".")[: len(parts)] == parts
    return engine.runtime == runtime.name and same


def _loads(engine: Contents, runtime: InstalledRuntime) -> bool:
    if _is_same(engine, runtime):
        return True
    later = _numbers(runtime.version) >= _numbers(engine.runtime_version)
    return engine.version_compatible and engine.runtime == runtime.name and later


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]
