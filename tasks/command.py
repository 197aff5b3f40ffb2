"""The command line around every step: its arguments, its recipe, its one-line errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError
from enginery.project.params import load_spec
from enginery.project.paths import Step, crash_log, model_folder
from enginery.report.events import emit, error_line
from enginery.system.environment import drop_credentials
from enginery.system.files import read_json
from enginery.system.home import ensure_home
from enginery.system.processes import interrupt_on_sigterm, time_limit
from enginery.system.tracebacks import crash_file, explain
from enginery.vision.tasks import TaskMetadata


def run_step(name: str, work: Callable[[Step], None], *parts: str) -> None:
    """Parse the step's parts (model, target, precision), do its work within its time limit.

    Exit 1 with one line on an error of any kind, 130 when interrupted.
    """
    parser = argparse.ArgumentParser(prog=f"tasks.{work.__module__}", description=work.__doc__)
    for part in parts:
        parser.add_argument(part)
    step = Step(name, **vars(parser.parse_args()))
    drop_credentials()
    interrupt_on_sigterm()
    ensure_home()  # the flow's has told of it
    emit({"event": "started"})
    log = crash_log(step.address)
    try:
        seconds = load_spec().time_limit(name)
        with crash_file(log), time_limit(seconds, *_stopped(step, seconds, log)):
            _do(step, work)
    except EngineryError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted; the next run goes on from here", 130)
    except Exception as error:
        _fail(explain(step.title, error, log))


def _do(step: Step, work: Callable[[Step], None]) -> None:
    began_with = _read(step.recipe)
    work(step)
    if _read(step.recipe) != began_with:  # DVC would hold what was made for made by the new one
        raise EngineryError(
            f"{step.recipe} was written anew while this step ran",
            "Run again, and let one run end before the next",
        )


def _stopped(step: Step, seconds: int, log: Path) -> tuple[int, str]:
    what = f"{step.title} was stopped at its time limit of {seconds} s; where it stood is in {log}"
    return error_line(
        f"{what}. If it only needs longer, raise time_limit_s.{step.name} in params.yaml"
    )


def recipe(step: Step) -> Any:
    """The step's parameters, as the fingerprint step wrote them."""
    try:
        return read_json(step.recipe)["parameters"]
    except FileNotFoundError:
        what = f"{step.recipe} is missing"
        raise EngineryError(
            what, "Run the fingerprint step first: .venv/bin/dvc repro fingerprint"
        ) from None


def record(step: Step, **facts: Any) -> dict[str, Any]:
    """What a step writes beside its output: its recipe and what it found."""
    return {"recipe": read_json(step.recipe), **facts}


def model_head(model: str) -> TaskMetadata:
    """A model's task, classes and keypoints, as its export recorded them."""
    found = read_json(model_folder(model, "export") / "record.json")
    names = {int(index): name for index, name in found["names"].items()}
    return TaskMetadata(
        found["task"], names, tuple(found["kpt_shape"]) if found.get("kpt_shape") else None
    )


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _fail(message: str, code: int = 1) -> None:
    emit({"event": "error", "message": message})
    sys.exit(code)
