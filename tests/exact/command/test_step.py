"""What surrounds every step, and the two ends of the pipeline: an export, and an engine for
Ultralytics.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import enginery.actions.export_ultralytics
import tasks.export
from enginery.errors import EngineryError, IntegrityError, ModelError
from enginery.pipeline import step as declaring
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, NoParameters, Step, load_step, step
from enginery.project.load import load_spec
from enginery.project.paths import WORKPLACE, model_folder
from enginery.project.stage import Stage
from enginery.registry.manifest import Manifest
from enginery.registry.records import parse
from enginery.registry.store import Engine, engine_in
from enginery.registry.task_metadata import read_task_metadata
from enginery.sources.export import ExportSettings
from enginery.system.files import read_json, write_json
from enginery.vision.tasks import TaskMetadata
from tests.conftest import ROOT
from tests.registered import register


@dataclass(frozen=True)
class Parameters:
    """What the step here is told."""

    a: int = 0


def parameters(project: Project, stage: Stage) -> Parameters:
    return Parameters()


def declared(work: Callable[[Job[Parameters]], None]) -> Step[Parameters]:
    """A step that does this."""
    return step("build", version=1, of=("model", "target"), parameters=parameters)(work)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A checkout of this test's own; what a step calls, one after another."""
    monkeypatch.chdir(tmp_path)
    called: list[Any] = []

    def noted(name: str) -> Callable[..., None]:
        return lambda *given: called.append((name, *given) if given else name)

    @contextmanager
    def crash_file(path: Path) -> Iterator[None]:
        called.append(("crash file", path))
        yield

    @contextmanager
    def time_limit(*given: Any) -> Iterator[None]:
        called.append(("limit", *given))
        yield

    for name in ("drop_credentials", "interrupt_on_sigterm", "ensure_home", "emit"):
        monkeypatch.setattr(declaring, name, noted(name))
    monkeypatch.setattr(declaring, "crash_file", crash_file)
    monkeypatch.setattr(declaring, "time_limit", time_limit)
    write_json(WORKPLACE, {"time_limit_s": {"build": 77, "export": 78}})
    write_json(Stage("build", "m", "server").recipe, {"parameters": {"a": 1}})
    monkeypatch.setattr(sys, "argv", ["x", "m", "server"])
    monkeypatch.delenv("ENGINERY_REPORT", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return called


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


# An export


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the export was asked for, and what it tells."""
    found = SimpleNamespace(asked=[], said=[], facts={"nodes": 9, "opset": 17})

    def export(source: Path, settings: ExportSettings, out: Path) -> Any:
        found.asked.append((source, settings))
        out.write_bytes(b"graph")
        return found.facts

    write_json(WORKPLACE, {"sources": {"m": {"trusted": True, "sha256": "abc"}}})
    source = SimpleNamespace(export=export)
    monkeypatch.setattr(tasks.export.sources, "find", lambda path: source)
    monkeypatch.setattr(tasks.export, "log", found.said.append)
    return found


def test_weights_are_exported_as_the_recipe_says(exported: Any) -> None:
    stage = Stage("export", "m")
    sizes = {"height": 64, "width": 96, "batch": 4, "dynamic": True, "opset": 18}
    parameters = {"source": "w.pt", "task": "pose", "sizes": sizes}
    write_json(stage.recipe, {"parameters": parameters})
    tasks.export.export_model(stage)
    settings = ExportSettings("pose", (64, 96), 4, True, 18, True, "abc")
    assert exported.asked == [(Path("w.pt"), settings)]
    folder = model_folder("m", "export")
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "record.json"]
    assert read_json(folder / "record.json") == {
        "recipe": {"parameters": parameters},
        **exported.facts,
    }
    assert exported.said == ["exported w.pt: 9 nodes, opset 17"]


def test_an_own_graph_has_all_but_its_task(exported: Any) -> None:
    stage = Stage("export", "m")
    parameters = {"source": "own.onnx", "task": "pose", "data": {"w": "1"}}
    write_json(stage.recipe, {"parameters": parameters})
    exported.facts["source_data"] = {"w": "1"}
    tasks.export.export_model(stage)
    assert exported.asked == [
        (Path("own.onnx"), ExportSettings("pose", trusted=True, sha256="abc"))
    ]
    for data in ({"w": "2"}, None):
        exported.facts["source_data"] = data
        if data is None:
            del exported.facts["source_data"]
        with pytest.raises(ModelError) as error:
            tasks.export.export_model(stage)
        assert error.value.what == "the data files of own.onnx changed since this run began"
        assert error.value.cure == "Run again"
    assert exported.said == ["exported own.onnx: 9 nodes, opset 17"]


# An engine for Ultralytics


@pytest.fixture
def engine() -> Engine:
    found = register("m/server/fp16")
    write_json(model_folder("m", "export") / "record.json", found.manifest.steps.export.to_json())
    return found


def test_a_plan_goes_behind_its_header(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        enginery.actions.export_ultralytics, "embedded_nms", lambda given: given is not engine
    )
    out = Path("m.engine")
    enginery.actions.export_ultralytics.export_ultralytics(engine, out)
    expected = {
        "args": {"dynamic": False, "nms": False},
        "batch": 1,
        "channels": 3,
        "description": "m fp16, built by Enginery",
        "end2end": True,
        "imgsz": [160, 160],
        "names": {"0": "disc"},
        "stride": 32,
        "task": "detect",
    }
    header = json.dumps(expected, sort_keys=True).encode()
    assert out.read_bytes() == len(header).to_bytes(4, "little") + header + b"plan" * 100
    engine.plan.write_bytes(b"plaN" * 100)
    with pytest.raises(IntegrityError):
        enginery.actions.export_ultralytics.export_ultralytics(engine, Path("n.engine"))
    assert not Path("n.engine").exists()


def test_the_header_of_other_engines() -> None:
    shapes = {"min": [1, 3, 32, 64], "opt": [4, 3, 64, 96], "max": [8, 3, 128, 192]}
    export = {"task": "pose", "stride": 64, "names": {"0": "a", "1": "b"}, "kpt_shape": [5, 3]}
    whole = read_json(register("m/server/int8").folder / "manifest.json")
    whole["steps"]["export"] |= export
    whole["steps"]["build"]["recipe"]["parameters"] |= {"profile": shapes, "dla_core": 0}
    manifest = parse(json.dumps(whole).encode(), Manifest)
    found = enginery.actions.export_ultralytics.metadata(manifest, None)
    assert found == {
        "description": "m int8, built by Enginery",
        "task": "pose",
        "stride": 64,
        "names": {0: "a", 1: "b"},
        "batch": 4,
        "channels": 3,
        "imgsz": [64, 96],
        "end2end": False,
        "args": {"dynamic": True, "nms": None},
        "kpt_shape": [5, 3],
        "dla": 0,
    }
    found = enginery.actions.export_ultralytics.metadata(manifest, True)
    assert (found["end2end"], found["args"]["nms"]) == (False, True)


def test_engines_that_yolo_cannot_load() -> None:
    check = enginery.actions.export_ultralytics._check_runtime
    check(register("m/server/fp16"))
    with pytest.raises(EngineryError) as error:
        check(register("m/rtx/fp16", runtime="tensorrt_rtx"))
    assert error.value.what == "m/rtx/fp16 is of TensorRT-RTX, and YOLO() loads engines of TensorRT"
    assert error.value.cure == (
        "Build it for a target of runtime tensorrt; `enginery predict` runs it as it is"
    )
    with pytest.raises(EngineryError) as error:
        check(register("m/any/fp16", version_compatible=True))
    assert error.value.what == (
        "m/any/fp16 is version compatible: it brings code of its own, which YOLO() does not let run"
    )
    assert (
        error.value.cure
        == "Build it without version_compatible; `enginery predict` runs it as it is"
    )


def test_yolo_feeds_an_input_by_its_name(engine: Engine) -> None:
    def check(name: str, *outputs: str) -> None:
        runner: Any = SimpleNamespace(input=name, outputs=outputs)
        enginery.actions.export_ultralytics._check_names(engine, runner)

    check("images", "a", "b")
    with pytest.raises(EngineryError) as error:
        check("input", "a")
    assert error.value.what == (
        "m/server/fp16: its input is called input, and YOLO() feeds only one called images"
    )
    assert error.value.cure == (
        "Rename it in the ONNX and build again; `enginery predict` runs the engine as it is"
    )
    with pytest.raises(EngineryError) as error:
        check("images", "b", "a")
    assert error.value.what == (
        "m/server/fp16: its outputs are b, a, and YOLO() takes them in the order of their names"
    )
    assert error.value.cure == (
        "Rename them in the ONNX and build again; `enginery predict` runs the engine as it is"
    )


def own_graph(*operators: str) -> None:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "h", "w"])
    nodes = [
        helper.make_node(name, ["images"], [f"y{index}"]) for index, name in enumerate(operators)
    ]
    kind = {"NonZero": TensorProto.INT64}.get(operators[0], TensorProto.FLOAT)
    output = helper.make_tensor_value_info("y0", kind, None)
    body = helper.make_graph(nodes, "g", [image], [output])
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, model_folder("m", "export") / "model.onnx")


@pytest.mark.parametrize(
    ("operators", "final", "nms"),
    [
        (("Relu", "Abs"), True, False),
        (("Relu", "NonZero"), True, True),
        (("Relu", "NonZero"), False, None),
    ],
)
def test_only_an_own_graph_can_bring_its_nms(
    monkeypatch: pytest.MonkeyPatch, operators: tuple[str, ...], final: bool, nms: bool | None
) -> None:
    asked: list[Any] = []
    export = enginery.actions.export_ultralytics
    monkeypatch.setattr(export, "_check_names", lambda *given: asked.append(given))
    monkeypatch.setattr(export, "_is_final", lambda *given: asked.append(given) or final)
    monkeypatch.setattr(export, "check_original", asked.append)
    assert export.embedded_nms(register("m/server/fp16")) is None
    assert asked == []
    engine = register("m/server/fp32", profile={k: [1, 3, 32, 64] for k in ("min", "opt", "max")})
    path = engine.folder / "manifest.json"
    manifest = read_json(path)
    manifest["steps"]["export"]["recipe"]["parameters"]["source"] = "own.onnx"
    write_json(path, manifest)
    own = engine_in(engine.folder)
    assert own is not None
    model_folder("m", "export").mkdir(parents=True)
    own_graph(*operators)
    assert export.embedded_nms(own) is nms
    assert asked[0] == own
    (first, runner), (second, same) = asked[1:]
    assert (first, second, same is runner) == (own, own, True)
    assert (runner.input, tuple(runner.size)) == ("images", (32, 64))


def test_what_is_final_is_told_by_an_image(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    for name, value in (("b", 20), ("a", 10)):
        Path("data/images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"data/images/{name}.png", np.full((8, 16, 3), value, np.uint8))
    head = SimpleNamespace(task="detect", end2end=lambda shapes: asked.append(shapes) or "final")
    monkeypatch.setattr(
        enginery.actions.export_ultralytics, "read_task_metadata", {"m": head}.__getitem__
    )

    def run(image: Any) -> Any:
        asked.append(image)
        return [np.zeros((1, 300, 6)), np.zeros((1, 2))]

    runner: Any = SimpleNamespace(run=run, size=(8, 16))
    assert enginery.actions.export_ultralytics._is_final(engine, runner) == "final"
    image, shapes = asked
    assert image.shape == (3, 8, 16)
    assert float(image.max()) == pytest.approx(10 / 255)
    assert shapes == [(1, 300, 6), (1, 2)]


def test_a_models_head_is_read(engine: Engine) -> None:
    assert read_task_metadata("m") == TaskMetadata("detect", {0: "disc"}, None)
    path = model_folder("m", "export") / "record.json"
    write_json(path, {**read_json(path), "task": "pose", "kpt_shape": [5, 3]})
    assert read_task_metadata("m") == TaskMetadata("pose", {0: "disc"}, (5, 3))
