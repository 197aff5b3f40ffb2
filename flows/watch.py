"""The flow: what changed on this machine, told to the fleet."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from enginery.errors import BusyError
from enginery.fleet.watch import look
from enginery.orchestration import fleet


@flow(name="watch", description="What must be rebuilt or revalidated on this machine, and why.")
def watch_machine(targets: list[str] | None = None, again: bool = False) -> State[Any]:
    """Look, keep the report, and send an event for what is new: it starts the rebuild.

    `targets` are those that this kind of machine is for; by default all that it can build.
    `again` sends what was told already, too: after a worker died.
    """
    try:
        report = look(targets)
    except BusyError as error:
        return Completed(message=str(error))  # the next watch looks again
    told = fleet.tell(report, again)
    return Completed(message=f"told: {', '.join(told)}" if told else "nothing new to tell")
