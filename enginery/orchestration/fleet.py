"""The fleet at Prefect's server: each machine's newest report is an artifact, its work an event.

artifact machine-NAME            what a machine has to do, and its MachineReport as JSON
artifact fleet                   the table of all machines
event enginery.machine.rebuild   of the resource enginery.machine.NAME, label enginery.pool;
                                 also .revalidate and .publish
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from prefect.events.schemas.events import Event
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL

from enginery.errors import EngineryError, ServerError
from enginery.fleet.machine import Action, MachineReport, slug
from enginery.fleet.table import machine_rows, work_of
from enginery.fleet.told import news, read_told, save_told
from enginery.fleet.watch import look
from enginery.orchestration.server import check_server
from enginery.registry.records import parse

EVENT = "enginery.machine"
_KEY, _JSON = "machine-", "```json\n"
_PAGE = 200
_TOLD_ENGINES = 100  # the server takes events of a limited size


def tell(report: MachineReport, again: bool = False) -> Sequence[Action]:
    """Keep a machine's report at the server, and send an event for each action that is new; these.

    With `again`, what was told already counts as new.

    Raises:
        ServerError: the server does not answer, or does not take it.
    """
    actions = news(report, read_told(), again)
    _keep(report, [_event(report, action) for action in actions])
    save_told(report, again)
    return actions


def report_end(targets: Collection[str] | None) -> None:
    """Keep how this machine stands after a run. No event is sent: what a run failed to do would
    start the next one at once.
    """
    try:
        _keep(look(targets), [])
    except EngineryError as error:
        get_run_logger().warning("the fleet does not know how this run ended: %s", error)


def machine_reports() -> list[MachineReport]:
    """The newest report of each machine, by name.

    Raises:
        ServerError: no server is named, or it does not answer.
    """
    if not PREFECT_API_URL.value():
        cure = "Start one (`enginery server`) and set PREFECT_API_URL"
        raise ServerError("no Prefect server is named, and machines report to one", cure)
    check_server()
    try:
        with get_client(sync_client=True) as client:
            return _reports(client)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise _refused(error) from None


def _keep(report: MachineReport, events: Sequence[Event]) -> None:
    check_server()
    key, title = f"{_KEY}{slug(report.machine)}", f"What {report.machine} is and has to do"
    try:
        with get_client(sync_client=True) as client:
            _create(client, key, "markdown", title, _markdown(report))
            if events:
                _send(client, events)
            rows = json.dumps(machine_rows(_reports(client), report.seen))
            _create(client, "fleet", "table", "Every machine that reported", rows)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise _refused(error) from None


def _reports(client: SyncPrefectClient) -> list[MachineReport]:
    ours = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(like_=f"{_KEY}%"))
    reports: list[MachineReport] = []
    start = 0
    while page := client.read_latest_artifacts(artifact_filter=ours, limit=_PAGE, offset=start):
        for artifact in page:
            reports += _report(artifact.data)
        start += len(page)
    return sorted(reports, key=lambda report: report.machine)


def _markdown(report: MachineReport) -> str:
    """For people in Prefect's UI, with the report itself at the end."""
    lines = "\n".join(f"- {line}" for line in work_of(report))
    return f"{lines}\n\n{_JSON}{report.model_dump_json(indent=2)}\n```\n"


def _report(data: Any) -> list[MachineReport]:
    """One, or none where a newer Enginery wrote it, or somebody by hand."""
    text = str(data).partition(_JSON)[2].rpartition("```")[0]
    with suppress(ValueError):
        return [parse(text.encode(), MachineReport)]
    return []


def _event(report: MachineReport, action: Action) -> Event:
    engines = report.to_do(action)
    return Event(
        event=f"{EVENT}.{action}",
        occurred=report.seen,  # type: ignore[arg-type]
        resource={  # type: ignore[arg-type]
            "prefect.resource.id": f"{EVENT}.{slug(report.machine)}",
            "prefect.resource.name": report.machine,
            "enginery.pool": report.pool or "none",
        },
        payload={
            "count": len(engines),
            "engines": {engine.name: list(engine.reasons) for engine in engines[:_TOLD_ENGINES]},
        },
    )


def _send(client: SyncPrefectClient, events: Sequence[Event]) -> None:
    """Send events and wait until the server has them."""
    content = [event.model_dump(mode="json") for event in events]
    client._client.post("/events", json=content).raise_for_status()


def _create(client: SyncPrefectClient, key: str, kind: str, title: str, data: str) -> None:
    client.create_artifact(ArtifactCreate(key=key, type=kind, description=title, data=data))


def _refused(error: httpx.HTTPError | PrefectHTTPStatusError) -> ServerError:
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 401:
        cure = "Set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING"
        return ServerError("Prefect's server asks for a password, or for another one", cure)
    what = f"Prefect's server did not take it: {' '.join(str(error).split())}"
    return ServerError(what, "Look at its log; nothing is lost, the next watch tells it again")
