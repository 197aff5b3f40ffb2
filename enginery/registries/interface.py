"""What Enginery asks of a registry: where a team's engines are for all its machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from enginery.project.engine_name import EngineName

if TYPE_CHECKING:
    from enginery.project.registry_settings import RegistrySettings
    from enginery.registry.published import Contents, PublishedEngine

PLAN, MANIFEST, REPORT = "model.plan", "manifest.json", "report.json"
STATEMENT, SIGNATURE = "statement.json", "statement.json.sig"
_OF_THE_REPORT = {"validated", "milliseconds", "report_sha256"}
SMALL_FILES = (MANIFEST, REPORT, STATEMENT, SIGNATURE)  # beside the plan, if there is one


@dataclass(frozen=True)
class Publication:
    """An engine to publish: its plan, and the small files beside it, which may depend on the number
    of the version that it becomes.
    """

    contents: Contents
    plan: Path
    signed: bool
    files: Callable[[int], Mapping[str, bytes]]

    def is_in(self, engine: PublishedEngine | None) -> bool:
        """Whether that is this very engine already.

        Of the same engine, machines have reports of their own, or none: another one is news only
        if it validates what was a candidate. Else two machines would publish in turns for ever.
        """
        if engine is None or (self.signed and not engine.signed):
            return False
        differing = set(self.contents.differences(engine))
        if engine.validated or not self.contents.validated:
            differing -= _OF_THE_REPORT
        return not differing

    def published(self, version: int, reference: str) -> PublishedEngine:
        """The version that it becomes, and where the back end keeps its files."""
        from enginery.registry.published import PublishedEngine

        numbered = {"version": version, "signed": self.signed, "reference": reference}
        return PublishedEngine.model_validate({**self.contents.to_json(), **numbered})


@dataclass(frozen=True)
class StageEvent:
    """Someone gave a stage, such as `production`, to a version of an engine, or took it away.

    `reference` is the back end's own. `doubt` says why hosts shall not believe it: nobody signed it
    whose signature counts; only of events that tell what serves now.
    """

    name: EngineName
    version: int
    stage: str
    assigned: bool
    who: str
    when: datetime
    why: str
    reference: str = ""
    doubt: str = ""


class Registry(Protocol):
    """The engines of a team, each with numbered versions, and which version serves in which stage.

    Versions count from 1 and are never changed. Any number of machines may use it at once.
    """

    @property
    def location(self) -> str:
        """Where it is, for people."""

    def engines(self, models: Collection[str] | None = None) -> Sequence[PublishedEngine]:
        """All versions of all engines, or of those of some models, by name and version.

        Raises:
            RegistryError: it cannot be reached or read.
        """

    def publish(self, publications: Sequence[Publication]) -> Sequence[PublishedEngine]:
        """Add those that are not the newest version of their engine already, each whole or not at
        all; what was added.

        Raises:
            RegistryError: it cannot be reached, or takes nothing.
        """

    def fetch(self, engine: PublishedEngine, folder: Path) -> None:
        """Write an engine's plan, manifest, report and signature into a folder that is there.

        Whoever asks compares the digests.

        Raises:
            RegistryError: it cannot be reached, or lacks a file.
        """

    def stage_events(self, names: Sequence[EngineName]) -> Sequence[StageEvent]:
        """Every event of these engines, the oldest first.

        Raises:
            RegistryError: it cannot be reached.
        """

    def stages(self) -> Mapping[str, Mapping[EngineName, int]]:
        """Which version of each engine serves, by stage; signatures are not looked at.

        Raises:
            RegistryError: it cannot be reached.
        """

    def assign(self, engine: PublishedEngine, stage: str, why: str) -> None:
        """Let a version serve in a stage, in the place of the one that serves now.

        Raises:
            RegistryError: it cannot be reached, or somebody else did that at the same moment.
        """

    def remove(self, engines: Sequence[PublishedEngine]) -> None:
        """Take versions away, all or none.

        Raises:
            RegistryError: it cannot be reached or takes no change, or one serves in a stage.
        """


class Backend(Protocol):
    """A kind of registry, found by its name in params.yaml."""

    def open(self, settings: RegistrySettings, root: Path) -> Registry:
        """The registry that a project's settings name; `root` is the project's folder.

        Raises:
            RegistryError: the settings name none.
        """


def newest(engines: Iterable[PublishedEngine]) -> Mapping[EngineName, PublishedEngine]:
    """The newest version of each engine."""
    return {engine.name: engine for engine in sorted(engines, key=lambda each: each.version)}


def serving(events: Sequence[StageEvent], stage: str) -> Mapping[EngineName, StageEvent]:
    """By which event each engine serves in a stage; the oldest of the events is the first."""
    order: dict[EngineName, dict[int, StageEvent]] = {}
    for event in events:
        if event.stage == stage:
            versions = order.setdefault(event.name, {})
            versions.pop(event.version, None)
            if event.assigned:
                versions[event.version] = event
    return {name: list(versions.values())[-1] for name, versions in order.items() if versions}


def all_serving(events: Sequence[StageEvent]) -> Mapping[str, Mapping[EngineName, int]]:
    """Which version of each engine serves, by stage."""
    return {
        stage: {name: event.version for name, event in serving(events, stage).items()}
        for stage in sorted({event.stage for event in events})
    }
