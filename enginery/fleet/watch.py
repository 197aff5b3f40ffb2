"""watch: what this machine is now, beside what its engines were built and validated for.

- rebuild: DVC finds a stage stale that the engine needs: another GPU, TensorRT or toolchain, a new
  model, other images, another parameter
- revalidate: the engine was validated with another driver than the machine has now
- publish: the engine is current here, and the team's registry does not have it yet

Nothing is built, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from enginery.actions.publish import propose
from enginery.errors import EngineryError, RegistryError, is_elsewhere
from enginery.fleet.machine import (
    Action,
    EngineStatus,
    MachineReport,
    State,
    machine_name,
    pool_name,
)
from enginery.gpu.inventory import Gpu, gpus
from enginery.pipeline.overview import Overview, overview
from enginery.pipeline.workplace import read_workplace
from enginery.project.engine_name import EngineName
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.registries import open_registry
from enginery.registry.store import MANIFEST, Engine, Entry, entries
from enginery.toolchain.host import this_platform

Reasons = Mapping[EngineName, tuple[str, ...]]


def look(targets: Collection[str] | None = None) -> MachineReport:
    """What this machine is and has to do; for some targets, or all that it can build.

    Raises:
        EngineryError: params.yaml or dvc.yaml has mistakes, a target is none of params.yaml's, or a
            run is at work in this checkout.
    """
    spec = load_spec()
    stages = overview(targets or None)
    registered = {entry.identity: entry for entry in entries()}
    cards = gpus()
    changed: dict[Action, Reasons] = {
        "rebuild": {name: _rebuild(stages, name) for name in stages.engines},
        "revalidate": other_drivers(registered.values(), cards),
    }
    faults = {name: why for name, why in stages.excluded.items() if not is_elsewhere(why)}
    notes: list[str] = []
    usable = [name for name in stages.engines if not changed["rebuild"][name]]
    changed["publish"] = _unpublished(spec, list(registered.values()), usable, notes)
    return MachineReport(
        machine=machine_name(),
        pool=pool_name(),
        seen=datetime.now(UTC).replace(microsecond=0),
        platform=this_platform(),
        gpus=tuple(f"{card.name} ({card.compute_capability})" for card in cards),
        driver=cards[0].driver if cards else None,
        runtimes=_runtimes({name.target for name in stages.engines}),
        engines=tuple(status(name, registered.get(name), changed) for name in stages.engines),
        excluded=tuple(
            str(name)
            for name in spec.engines()
            if name not in stages.engines and name.target not in faults
        ),
        faults=tuple(map(str, faults.values())),
        notes=tuple(notes),
        last_build=_last_build(registered.values()),
    )


def status(
    name: EngineName, entry: Entry | None, changed: Mapping[Action, Reasons]
) -> EngineStatus:
    """How an engine stands; of several actions, the first is what is to be done."""
    made: State = "current" if isinstance(entry, Engine) else "missing"
    for action, reasons in changed.items():
        if why := reasons.get(name):
            state: State = "stale" if action == "rebuild" and made == "current" else made
            return EngineStatus(name=str(name), state=state, action=action, reasons=why)
    return EngineStatus(name=str(name), state=made)


def other_drivers(registered: Collection[Entry], cards: Sequence[Gpu]) -> Reasons:
    """The validated engines of a machine's GPUs that ran with another driver than it has now."""
    drivers = {card.uuid: card.driver for card in cards}
    reasons = {}
    for engine in registered:
        report = engine.gpu_check.report if isinstance(engine, Engine) else None
        now = drivers.get(report.gpu.uuid) if report else None
        if report and now and report.gpu.driver and report.gpu.driver != now:
            reasons[engine.identity] = (f"driver {report.gpu.driver} -> {now}",)
    return reasons


def _rebuild(stages: Overview, name: EngineName) -> tuple[str, ...]:
    return tuple(f"{title}: {stages.stale[title]}" for title in stages.engines[name])


def _unpublished(
    spec: Spec, registered: Sequence[Entry], usable: Collection[EngineName], notes: list[str]
) -> Reasons:
    """The current engines that the team's registry lacks; without a registry there are none."""
    if not (usable and registered):
        return {}
    try:
        registry = open_registry(spec.registry)
    except RegistryError:  # this project has none
        return {}
    try:
        new = propose(spec, registry, registered, usable).new
    except EngineryError as error:
        notes.append(f"not compared with the team's registry: {error}")
        return {}
    why = ("the team's registry does not have it yet",)
    return {publication.contents.name: why for publication in new}


def _runtimes(built: Collection[str]) -> Mapping[str, str]:
    """By target that this machine builds for, the runtime."""
    targets = read_workplace().values.get("targets", {})
    return {
        name: f"{values['runtime']['runtime']} {values['runtime']['version']}"
        for name, values in sorted(targets.items())
        if name in built
    }


def _last_build(registered: Collection[Entry]) -> datetime | None:
    """When this machine registered its newest engine."""
    times = []
    for entry in registered:
        with suppress(OSError):
            times.append((entry.folder / MANIFEST).stat().st_mtime)
    return datetime.fromtimestamp(max(times), UTC).replace(microsecond=0) if times else None
