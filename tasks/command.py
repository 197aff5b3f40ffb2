"""The command line around every step: its arguments, its recipe, its one-line errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError
from enginery.evaluation.head import Head
from enginery.files import read_json
from enginery.home import ensure_home
from enginery.layout import Step, model_folder
from enginery.processes import interrupt_on_sigterm
from enginery.report.events import emit


def run_step(name: str, work: Callable[[Step], None], *parts: str) -> None:
    """Parse the step's parts (model, target, precision), do its work; exit 1 with one line on an error, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog=f"tasks.{work.__module__}", description=work.__doc__)
    for part in parts:
        parser.add_argument(part)
    step = Step(name, **vars(parser.parse_args()))
    interrupt_on_sigterm()
    ensure_home()  # the flow's has told of it
    emit({"event": "started"})
    began_with = _read(step.recipe)
    try:
        work(step)
        if _read(step.recipe) != began_with:  # DVC would hold what was made for made by the new one
            raise EngineryError(f"{step.recipe} was written anew while this step ran", "Run again, and let one run end before the next")
    except EngineryError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted; the next run goes on from here", 130)
    except MemoryError:
        _fail("out of memory. Close other programs or use smaller input sizes")


def recipe(step: Step) -> Any:
    """The step's parameters, as the fingerprint step wrote them."""
    try:
        return read_json(step.recipe)["parameters"]
    except FileNotFoundError:
        what = f"{step.recipe} is missing"
        raise EngineryError(what, "Run the fingerprint step first: .venv/bin/dvc repro fingerprint") from None


def record(step: Step, **facts: Any) -> dict[str, Any]:
    """What a step writes beside its output: its recipe and what it found."""
    return {"recipe": read_json(step.recipe), **facts}


def model_head(model: str) -> Head:
    """A model's task, classes and keypoints, as its export recorded them."""
    found = read_json(model_folder(model, "export") / "record.json")
    names = {int(index): name for index, name in found["names"].items()}
    return Head(found["task"], names, tuple(found["kpt_shape"]) if found.get("kpt_shape") else None)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _fail(message: str, code: int = 1) -> None:
    emit({"event": "error", "message": message})
    sys.exit(code)
