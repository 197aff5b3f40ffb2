"""`enginery status`: what is stale and why, without building anything."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enginery.cli import Command, new_app
from enginery.errors import EngineryError, TargetLostError, is_elsewhere

if TYPE_CHECKING:
    from enginery.pipeline.overview import Overview

app = new_app()


@app.command(cls=Command)
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print an object, for programs.")] = False,
) -> int:
    """What is stale and why."""
    from enginery.pipeline.overview import overview

    logging.getLogger("dvc").setLevel(logging.ERROR)
    stages = overview()
    if as_json:
        print(json.dumps(_summary(stages), indent=2))
    else:
        _say(stages.excluded, stages.stale, stages.count)
    return int(any(_is_fault(error) for error in stages.excluded.values()))


def _summary(stages: Overview) -> dict[str, Any]:
    """For programs: the stale steps and the targets that are not judged here, with the reasons."""
    stale = [{"step": title, "reason": reason} for title, reason in stages.stale.items()]
    excluded = [
        {"target": target, "fault": _is_fault(error), "reason": _why(error)}
        for target, error in stages.excluded.items()
    ]
    return {"steps": stages.count, "stale": stale, "excluded": excluded}


def _say(excluded: Mapping[str, EngineryError], stale: Mapping[str, str], count: int) -> None:
    for target, error in excluded.items():
        print(f"{target}: {_why(error)}")
    for title, reason in stale.items():
        print(f"{title}: {reason}")
    up_to_date = f"all {count} steps are up to date"
    print(f"{len(stale)} of {count} steps are stale" if stale else up_to_date)


def _why(error: EngineryError) -> str:
    """Why a target's steps are not judged on this machine."""
    if isinstance(error, TargetLostError):
        return f"lost: {error.why}"
    if is_elsewhere(error):
        return f"elsewhere: {error.why}"
    return f"broken: {error}"


def _is_fault(error: EngineryError) -> bool:
    """Whether a target is missing that this machine should be able to build."""
    return not is_elsewhere(error)
