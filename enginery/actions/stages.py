"""promote, rollback and prune: which published version of an engine serves in which stage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from enginery.errors import EngineryError
from enginery.project.engine_name import EngineName
from enginery.project.load import team_settings
from enginery.registries import open_registry
from enginery.registries.interface import Registry, StageEvent, newest, serving
from enginery.registry.published import STATES, PublishedEngine

PRODUCTION = "production"
_STAGE = r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?"


def open_published(location: str | None, text: str) -> tuple[Registry, list[PublishedEngine]]:
    """The team's registry, as `--registry` or params.yaml names it, with an engine of it as
    `find_published`.
    """
    registry = open_registry(team_settings(location))
    return registry, find_published(registry, text)


def find_published(registry: Registry, text: str) -> list[PublishedEngine]:
    """All versions of the engine called model/target/precision, or of the only one whose name
    contains `text`, the oldest first.

    Raises:
        EngineryError: there is none, or there are several.
    """
    engines = matching(registry, text)
    names = sorted({engine.name for engine in engines})
    if len(names) == 1:
        return sorted(engines, key=lambda engine: engine.version)
    several = ", ".join(map(str, names[:9]))
    raise EngineryError(f"more than one engine is called {text!r}", f"Name one: {several}")


def matching(registry: Registry, text: str) -> list[PublishedEngine]:
    """All versions of the engine called so, or of all whose names contain `text`.

    Raises:
        EngineryError: there is none.
    """
    parts = text.split("/")
    name = EngineName(*parts) if len(parts) == 3 else None
    if name and name.possible:
        engines = [engine for engine in registry.engines({name.model}) if engine.name == name]
    else:
        engines = [engine for engine in registry.engines() if text in str(engine.name)]
    if not engines:
        cure = "`enginery published` shows what it has; `enginery publish` adds to it"
        raise EngineryError(f"no engine in {registry.location} is called {text!r}", cure)
    return engines


def promote(
    registry: Registry,
    versions: Sequence[PublishedEngine],
    number: int | None,
    stage: str,
    why: str,
    unvalidated: bool,
) -> PublishedEngine:
    """Let one of an engine's versions, the newest if no number is given, serve in a stage.

    Raises:
        EngineryError: there is no such version, it only was a candidate, or it serves already.
        RegistryError: the registry cannot be reached, or somebody else changed the stage meanwhile.
    """
    check_stage(stage)
    engine = find_version(versions, number)
    if not (engine.validated or unvalidated):
        what = f"{engine.title} is a candidate: only its graph was checked, not the engine itself"
        cure = "Run `enginery validate` on its GPU and publish again, or add --unvalidated"
        raise EngineryError(what, cure)
    now = serving(registry.stage_events([engine.name]), stage).get(engine.name)
    if now and now.version == engine.version and not now.doubt:
        raise EngineryError(f"{engine.title} serves in {stage} already", "There is nothing to do")
    registry.assign(engine, stage, _line(why) or f"{engine.title} to {stage}")
    return engine


def roll_back(
    registry: Registry, versions: Sequence[PublishedEngine], stage: str, why: str
) -> tuple[PublishedEngine, int]:
    """Let the version that served before the present one serve again; it, and the present one.

    Raises:
        EngineryError: none served before.
        RegistryError: the registry cannot be reached, or somebody else changed the stage meanwhile.
    """
    name, known = versions[0].name, {engine.version: engine for engine in versions}
    events = registry.stage_events([name])
    now = serving(events, stage).get(name)
    present = now.version if now else 0
    before = [
        number
        for number in _served_before(events, stage).get(name, ())
        if number in known and number != present
    ]
    if not (present and before):
        serves = f"v{present} is the only one that ever served" if present else "none serves"
        cure = "`enginery history` shows what served; `enginery promote --version` takes any"
        raise EngineryError(f"{name} has no earlier version in {stage}: {serves}", cure)
    engine = known[before[-1]]
    registry.assign(engine, stage, _line(why) or f"rolled back from v{present}")
    return engine, present


def superfluous(registry: Registry, keep: int) -> list[PublishedEngine]:
    """The versions that retention does not need: they are older than the newest `keep` of their
    engine, no stage serves them, and no rollback leads to them.
    """
    engines = registry.engines()
    numbers: dict[EngineName, list[int]] = {}
    for engine in engines:
        numbers.setdefault(engine.name, []).append(engine.version)
    many = [name for name, versions in numbers.items() if len(versions) > keep]
    needed = _needed(registry.stage_events(many))
    return [
        engine
        for engine in engines
        if engine.version not in sorted(numbers[engine.name])[-keep:]
        and engine.version not in needed.get(engine.name, ())
    ]


def find_version(versions: Sequence[PublishedEngine], number: int | None) -> PublishedEngine:
    """One of an engine's versions; the newest if no number is given.

    Raises:
        EngineryError: there is no such version.
    """
    if number is None:
        [engine] = newest(versions).values()
        return engine
    for engine in versions:
        if engine.version == number:
            return engine
    there = ", ".join(f"v{engine.version}" for engine in versions)
    raise EngineryError(f"{versions[0].name} has no version {number}", f"It has {there}")


def check_stage(stage: str) -> None:
    """Make sure that versions can be given a stage.

    Raises:
        EngineryError: they cannot.
    """
    if stage in STATES:
        what = f"{stage} is no stage: it follows from what checked the engine"
        raise EngineryError(what, f"Name a stage in which engines serve, such as {PRODUCTION}")
    if not re.fullmatch(_STAGE, stage):
        what = f"{stage!r} is no name for a stage"
        raise EngineryError(what, "Use small letters, digits, - and _")


def _served_before(events: Sequence[StageEvent], stage: str) -> Mapping[EngineName, list[int]]:
    """Every version that a stage was given to, in the order of the last time."""
    order: dict[EngineName, list[int]] = {}
    for event in events:
        if event.stage == stage and event.assigned:
            versions = order.setdefault(event.name, [])
            versions[:] = [number for number in versions if number != event.version]
            versions.append(event.version)
    return order


def _needed(events: Sequence[StageEvent]) -> Mapping[EngineName, set[int]]:
    """What the stages serve, and what served right before."""
    needed: dict[EngineName, set[int]] = {}
    for stage in {event.stage for event in events}:
        for name, versions in _served_before(events, stage).items():
            needed.setdefault(name, set()).update(versions[-2:])
        for name, event in serving(events, stage).items():
            needed.setdefault(name, set()).add(event.version)
    return needed


def _line(text: str) -> str:
    return " ".join(text.split())
