"""What a machine tells the fleet of itself: what it is, and how each of its engines stands."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from enginery.registry.records import Count, Record

Action = Literal["rebuild", "revalidate", "publish"]
State = Literal["current", "stale", "missing"]
NAME_VARIABLE, POOL_VARIABLE = "ENGINERY_MACHINE", "ENGINERY_POOL"
SCHEMA = 1  # to be raised when a key changes its meaning
Text = Annotated[str, StringConstraints(min_length=1)]


class EngineStatus(Record):
    """An engine that a machine builds: how it stands, and what is to be done and why, if it is."""

    name: Text
    state: State
    action: Action | None = None
    reasons: tuple[str, ...] = ()


class MachineReport(Record):
    """A machine at one moment.

    `excluded` are engines that it does not build. `faults` are targets that it should be able to
    build and cannot. `notes` say what could not be looked at.
    """

    schema_version: Annotated[int, Field(ge=SCHEMA, le=SCHEMA)] = SCHEMA
    machine: Text
    pool: str
    seen: datetime
    platform: str
    gpus: tuple[str, ...]
    driver: str | None
    runtimes: Mapping[str, str]
    engines: tuple[EngineStatus, ...]
    excluded: tuple[str, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    last_build: datetime | None

    def count(self, state: State) -> Count:
        """How many engines stand so."""
        return sum(engine.state == state for engine in self.engines)

    def to_do(self, action: Action) -> list[EngineStatus]:
        """The engines with which this is to be done."""
        return [engine for engine in self.engines if engine.action == action]

    @property
    def has_work(self) -> bool:
        """Whether anything is to be done."""
        return any(engine.action for engine in self.engines)


def machine_name() -> str:
    """What the fleet calls this machine: ENGINERY_MACHINE, or its host name."""
    return os.environ.get(NAME_VARIABLE) or platform.node() or "unnamed"


def pool_name() -> str:
    """The work pool of this machine's kind: ENGINERY_POOL; empty if it is in none."""
    return os.environ.get(POOL_VARIABLE, "")


def slug(name: str) -> str:
    """A machine's name as Prefect takes keys: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"
