"""A step is declared once, in its module of tasks/: version, tools, parameters, record, function.

    @dataclass(frozen=True)
    class Parameters:
        threshold: float

    def parameters(project: Project, stage: Stage) -> Parameters: ...

    @step("sharpen", version=1, of=("model",), tools=("numpy",), parameters=parameters)
    def sharpen(job: Job[Parameters]) -> None:
        ...

    if __name__ == "__main__":
        sharpen.main()

The recipe that the fingerprint step writes, why a stage is stale in words, and what an engine's
manifest says of the step follow from the declaration. A step reads its recipe and the files that
its stage in dvc.yaml names; what is not in the recipe cannot change its output. Raise `version`
when the output changes for the same inputs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from enginery.errors import EngineryError
from enginery.pipeline.project import Project
from enginery.pipeline.workplace import read_workplace
from enginery.project.loading import find_modules_here
from enginery.project.paths import crash_log
from enginery.project.stage import KINDS, Stage
from enginery.report.events import emit, error_line
from enginery.system.environment import drop_credentials
from enginery.system.files import read_json
from enginery.system.home import ensure_home
from enginery.system.processes import interrupt_on_sigterm, time_limit
from enginery.system.tracebacks import crash_file, explain

PACKAGE = "tasks"  # of the project
ADDRESS = "DVC_STAGE"  # the variable in which DVC tells a command its stage
P = TypeVar("P")
Tools = Sequence[str] | Callable[[Project, Stage], Sequence[str]]


@dataclass(frozen=True)
class NoParameters:
    """Nothing but files and tools shapes the step's output."""


@dataclass(frozen=True)
class Job(Generic[P]):
    """One run of a step: for what, and with which parameters."""

    stage: Stage
    parameters: P

    def record(self, **results: Any) -> dict[str, Any]:
        """What a step writes beside its output: its recipe and what came of it."""
        return {"recipe": read_json(self.stage.recipe), **results}


def _no_parameters(project: Project, stage: Stage) -> NoParameters:
    return NoParameters()


class Step(Generic[P]):
    """A declared step. Calling it with a stage does the work in this process."""

    def __init__(
        self,
        name: str,
        version: int,
        of: tuple[str, ...],
        tools: Tools,
        parameters: Callable[[Project, Stage], P],
        record: str,
        work: Callable[[Job[P]], None],
    ) -> None:
        self.name, self.version, self.of = name, version, of
        self._tools, self._parameters, self._record, self._work = tools, parameters, record, work

    def __call__(self, stage: Stage) -> None:
        """Do the work of a stage as its recipe says."""
        self._work(Job(stage, self.read_parameters(stage)))

    def tools(self, project: Project, stage: Stage) -> Sequence[str]:
        """The packages whose versions shape the output of a stage."""
        return self._tools(project, stage) if callable(self._tools) else self._tools

    def parameters(self, project: Project, stage: Stage) -> dict[str, Any]:
        """What a stage's recipe says, as plain values; optional ones at their default are left out.

        So a new option that nobody sets makes nothing stale.
        """
        return _plain(self._parameters(project, stage))

    def read_parameters(self, stage: Stage) -> P:
        """The parameters in a stage's recipe.

        Raises:
            EngineryError: it has none yet.
        """
        if self._parameters is _no_parameters:
            return NoParameters()  # type: ignore[return-value]
        try:
            values = read_json(stage.recipe)["parameters"]
        except FileNotFoundError:
            what = f"{stage.recipe} is missing"
            raise EngineryError(
                what, "Run the fingerprint step first: dvc repro fingerprint"
            ) from None
        value: P = self._type.validate_python(values)
        return value

    def record(self, stage: Stage) -> Path | None:
        """Where a stage writes its record; None if the step writes none."""
        values = {kind: getattr(stage, kind) for kind in KINDS}
        return Path(self._record.format(**values)) if self._record else None

    def main(self) -> None:
        """The command line that dvc.yaml calls.

        Exit 1 with one line on an error of any kind, 130 when interrupted.
        """
        parser = argparse.ArgumentParser(
            prog=f"{PACKAGE}.{self.name}", description=self._work.__doc__
        )
        for kind in self.of:
            parser.add_argument(kind)
        _run(self, Stage(self.name, **vars(parser.parse_args())))

    @cached_property
    def _type(self) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(get_type_hints(self._parameters)["return"])


def step(
    name: str,
    *,
    version: int,
    of: tuple[str, ...] = (),
    tools: Tools = (),
    parameters: Callable[[Project, Stage], P] = _no_parameters,  # type: ignore[assignment]
    record: str = "",
) -> Callable[[Callable[[Job[P]], None]], Step[P]]:
    """Declare a step.

    `of` are the kinds that its stages are told apart by, in the order of its arguments. `record` is
    where it writes its record, with {model}, {target}, {precision} and {toolchain} filled in.
    """

    def declare(work: Callable[[Job[P]], None]) -> Step[P]:
        return Step(name, version, of, tools, parameters, record, work)

    return declare


def load_step(name: str) -> Step[Any]:
    """The step that the project declares under a name.

    Raises:
        EngineryError: tasks/ has no such module, or the module declares no such step.
    """
    module_name = f"{PACKAGE}.{name.replace('-', '_')}"
    path = f"{module_name.replace('.', '/')}.py"
    if importlib.util.find_spec(PACKAGE) is None:  # a worker of Prefect's was started elsewhere
        find_modules_here()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name not in (PACKAGE, module_name):
            raise
        what = f"dvc.yaml has stages of the step {name}, and there is no {path}"
        raise EngineryError(
            what, f"Write {path}, or take `step: {name}` out of their meta"
        ) from None
    for value in vars(module).values():
        if isinstance(value, Step) and value.name == name:
            return value
    raise EngineryError(
        f"{path} declares no step {name}", f"Declare it: @step({name!r}, version=1)"
    )


def _plain(parameters: Any) -> dict[str, Any]:
    if not is_dataclass(parameters):
        raise TypeError(
            f"a step's parameters are a frozen dataclass, not {type(parameters).__name__}"
        )
    return {
        field.name: _value(getattr(parameters, field.name))
        for field in fields(parameters)
        if getattr(parameters, field.name) != field.default
    }


def _value(value: Any) -> Any:
    if is_dataclass(value):
        return _plain(value)
    if isinstance(value, Mapping):
        return {key: _value(inner) for key, inner in value.items()}
    return [_value(inner) for inner in value] if isinstance(value, tuple | list) else value


def _run(declared: Step[Any], stage: Stage) -> None:
    drop_credentials()
    interrupt_on_sigterm()
    ensure_home()  # the command has told of it
    emit({"event": "started"})
    log = crash_log(os.environ.get(ADDRESS, f"{stage.step}-{stage.key}"))
    try:
        seconds = read_workplace().time_limit(declared.name)
        with crash_file(log), time_limit(seconds, *_stopped(stage, seconds, log)):
            _do(declared, stage)
    except EngineryError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted; the next run goes on from here", 130)
    except Exception as error:
        _fail(explain(stage.title, error, log))


def _do(declared: Step[Any], stage: Stage) -> None:
    before = _read(stage.recipe)
    declared(stage)
    if _read(stage.recipe) != before:  # DVC would take the old output for the new recipe's
        what = f"{stage.recipe} was written anew while this step ran"
        raise EngineryError(what, "Run again, and let one run end before the next")


def _stopped(stage: Stage, seconds: int, log: Path) -> tuple[int, str]:
    what = f"{stage.title} was stopped at its time limit of {seconds} s; where it stood is in {log}"
    cure = f"If it only needs longer, raise time_limit_s.{stage.step} in params.yaml"
    return error_line(f"{what}. {cure}")


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _fail(message: str, code: int = 1) -> None:
    emit({"event": "error", "message": message})
    sys.exit(code)
