"""A step as a command: its recipe, its limits, its arguments and its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from enginery.errors import EngineryError
from enginery.pipeline import step as declaring
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, NoParameters, Step, load_step, step
from enginery.project.load import load_spec
from enginery.project.stage import Stage
from enginery.system.files import write_json
from tests.conftest import ROOT


@dataclass(frozen=True)
class Parameters:
    """What the step here is told."""

    a: int = 0


def parameters(project: Project, stage: Stage) -> Parameters:
    return Parameters()


def declared(work: Callable[[Job[Parameters]], None]) -> Step[Parameters]:
    """A step that does this."""
    return step("build", version=1, of=("model", "target"), parameters=parameters)(work)


LOG = Path("artifacts/logs/build-m-server.txt")


def stopped(log: Path) -> str:
    return (
        "error: build m for server was stopped at its time limit of 77 s; where it stood is in "
        f"{log}. If it only needs longer, raise time_limit_s.build in params.yaml"
    )


@pytest.mark.parametrize("address", ["", "build@m-server"])
def test_a_step_runs_with_its_recipe_in_its_limits(
    here: list[Any], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    log = LOG
    if address:  # a stage that a team calls otherwise has a log of its own
        monkeypatch.setenv("DVC_STAGE", address)
        log = Path("artifacts/logs/build-m-server.txt")
    declared(here.append).main()
    assert here == [
        "drop_credentials",
        "interrupt_on_sigterm",
        "ensure_home",
        ("emit", {"event": "started"}),
        ("crash file", log),
        ("limit", 77, 2, stopped(log)),
        Job(Stage("build", "m", "server"), Parameters(1)),
    ]


def ended(work: Callable[[Job[Parameters]], Any], here: list[Any]) -> tuple[Any, Any]:
    with pytest.raises(SystemExit) as end:
        declared(work).main()
    name, event = here[-1]
    assert name == "emit"
    assert event.pop("event") == "error"
    return end.value.code, event


def test_how_a_step_ends(here: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> Callable[[Job[Parameters]], None]:
        def work(job: Job[Parameters]) -> None:
            raise error

        return work

    monkeypatch.setattr(declaring, "explain", lambda *given: f"explained {given}")
    assert ended(raising(EngineryError("odd", "mend")), here) == (1, {"message": "odd. mend"})
    words = "interrupted; the next run goes on from here"
    assert ended(raising(KeyboardInterrupt()), here) == (130, {"message": words})
    error = ValueError("x")
    explained = f"explained {('build m for server', error, LOG)}"
    assert ended(raising(error), here) == (1, {"message": explained})


def test_a_recipe_that_is_written_anew_is_no_recipe(here: list[Any]) -> None:
    recipe = Stage("build", "m", "server").recipe
    message = f"{recipe} was written anew while this step ran. Run again, and let one run end before the next"
    assert ended(lambda job: recipe.write_text("other"), here) == (1, {"message": message})
    write_json(recipe, {"parameters": {"a": 1}})
    assert ended(lambda job: recipe.unlink(), here) == (1, {"message": message})
    missing = f"{recipe} is missing. Run the fingerprint step first: dvc repro fingerprint"
    assert ended(here.append, here) == (1, {"message": missing})


def test_a_step_without_parameters_needs_no_recipe(here: list[Any]) -> None:
    Stage("build", "m", "server").recipe.unlink()
    step("build", version=1, of=("model", "target"))(here.append).main()
    assert here[-1] == Job(Stage("build", "m", "server"), NoParameters())


def test_the_arguments_of_a_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(job: Job[Parameters]) -> None:
        """Build what is asked for."""

    monkeypatch.setattr(sys, "argv", ["x", "--help"])
    with pytest.raises(SystemExit):
        declared(work).main()
    said = capsys.readouterr().out
    assert said.startswith("usage: tasks.build [-h] model target\n")
    assert "\nBuild what is asked for." in said


@dataclass(frozen=True)
class Inner:
    """Parameters in parameters."""

    size: int
    more: str | None = None


@dataclass(frozen=True)
class Options:
    """Of every kind."""

    needed: float
    inner: Inner
    several: tuple[Inner, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] | None = None
    off: bool = False


def test_parameters_come_back_from_a_recipe_as_they_went_in() -> None:
    """What is optional and at its default is not in it: a new option makes nothing stale."""
    full = Options(0.5, Inner(1, "x"), (Inner(2),), {"min": (1, 3)}, off=True)
    for options, plain in (
        (Options(1, Inner(1)), {"needed": 1, "inner": {"size": 1}}),
        (
            full,
            {
                "needed": 0.5,
                "inner": {"size": 1, "more": "x"},
                "several": [{"size": 2}],
                "shapes": {"min": [1, 3]},
                "off": True,
            },
        ),
    ):

        def given(project: Project, stage: Stage, options: Options = options) -> Options:
            return options

        own = step("own", version=1, parameters=given)(lambda job: None)
        stage = Stage("own", "m")
        found = own.parameters(Project(load_spec(ROOT / "params.yaml")), stage)
        assert found == plain
        write_json(stage.recipe, {"parameters": found})
        assert own.read_parameters(stage) == options


def test_a_step_that_is_not_declared_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineryError) as error:
        load_step("no-such")
    assert str(error.value) == (
        "dvc.yaml has stages of the step no-such, and there is no tasks/no_such.py. "
        "Write tasks/no_such.py, or take `step: no-such` out of their meta"
    )
    monkeypatch.setitem(sys.modules, "tasks.empty", ModuleType("tasks.empty"))
    with pytest.raises(EngineryError) as error:
        load_step("empty")
    assert str(error.value) == (
        "tasks/empty.py declares no step empty. Declare it: @step('empty', version=1)"
    )
    assert load_step("calibration-images").name == "calibration-images"
    wrong = step("wrong", version=1, parameters=lambda project, stage: {"a": 1})
    with pytest.raises(TypeError, match="a step's parameters are a frozen dataclass, not dict"):
        wrong(lambda job: None).parameters(Project(load_spec(ROOT / "params.yaml")), Stage("wrong"))
