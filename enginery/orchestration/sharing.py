"""Several machines that build one project: whose turn a target is, and what the others get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from enginery.actions.publish import propose
from enginery.errors import EngineryError
from enginery.orchestration.preparation import Run
from enginery.orchestration.run import note
from enginery.pipeline.graph import Node
from enginery.project.params import Spec
from enginery.project.stage import Stage
from enginery.registries import open_registry
from enginery.registry.store import entries

_LEASE_S = 60.0  # after which the turn of a machine that died is given to the next


@contextmanager
def target_turns(run: Run, share: bool) -> Iterator[None]:
    """Hold the turn of every target that this machine builds: another machine that builds for one
    of them waits, and then restores what this one pushed.

    A turn is a concurrency limit of Prefect's server, named after the target. It is a lease: a
    machine that dies gives it back within a minute or two.
    """
    names = sorted(f"enginery {target}" for target in run.targets - run.excluded.keys())
    if not (share and names):
        yield
        return
    for name in names:
        _make_limit(name)
    turn = concurrency(
        names, lease_duration=_LEASE_S, strict=True, raise_on_lease_renewal_failure=False
    )
    turn.__enter__()
    try:
        yield
    finally:
        with suppress(httpx.HTTPError, PrefectHTTPStatusError):  # the lease ends by itself
            turn.__exit__(None, None, None)


def share_builds(run: Run) -> None:
    """Push what was built to DVC's remote, so that others restore it, and publish the engines."""
    node = Node("share", "push and publish", Stage("share"), ())
    note(run, node, _share.with_options(task_run_name=node.title), quote(run))


def publish_new(spec: Spec) -> str:
    """Publish this machine's new engines; what came of it, in words.

    Raises:
        EngineryError: the registry or the remote does not take them.
    """
    registry = open_registry(spec.registry)
    proposal = propose(spec, registry, entries())
    added = registry.publish(proposal.new) if proposal.new else []
    names = ", ".join(engine.title for engine in added)
    return f"published {names}" if added else "nothing new to publish"


@task(name="share", cache_policy=NO_CACHE, persist_result=False)
def _share(run: Run) -> State[Any]:
    logger = get_run_logger()
    try:
        pushed = run.pipeline.push(lambda *_: None)
        for line in pushed.lost:
            logger.warning("not pushed: %s", line)
        words = publish_new(run.spec)
    except EngineryError as error:
        return Failed(message=str(error))
    return Completed(message=f"pushed {pushed.sent_objects} objects, {words}")


def _make_limit(name: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            limit = GlobalConcurrencyLimitCreate(name=name, limit=1)
            with suppress(ObjectAlreadyExists, PrefectHTTPStatusError):  # another made it just now
                client.create_global_concurrency_limit(limit)
