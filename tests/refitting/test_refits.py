"""A build becomes a refit where an engine differs in weights alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from enginery.calibration import cache
from enginery.errors import IntegrityError
from enginery.project.paths import engine_folder
from enginery.project.stage import Stage
from enginery.system.files import sha256, write_json
from enginery.toolchain.requests import BuildRequest
from tasks.refitting import base, refitted, structure
from tests.refitting.common import Edit, weights
from tests.registered import enter, recipe, records
from tests.test_toolchain import graph

STEP = Stage("build", "m", "server", "int8")
NOWHERE = Path("nowhere/python")  # a child that cannot be started: whoever tries to refit fails
OLD_PLAN = b"the registered plan"
SHAPES = {which: [1, 4, 8, 8] for which in ("min", "opt", "max")}
RECIPE = recipe(
    "build",
    refittable=True,
    runtime="tensorrt",
    runtime_version="10.16.1.11",
    platform="linux_x86_64",
    compute_capability="9.0",
    gpu="Card",
    profile=SHAPES,
)


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildRequest:
    """A build whose registered engine differs in weights alone."""
    monkeypatch.chdir(tmp_path)
    cache.write(cache.from_thresholds({"x": 127.0, "c": 63.5}), tmp_path / "ranges.cache")
    request = BuildRequest(
        "tensorrt",
        graph(tmp_path / "g.onnx"),
        tmp_path / "work" / "model.plan",
        "m",
        refittable=True,
        precision="int8",
        cache=tmp_path / "ranges.cache",
        fp16_layers=("last",),
    )
    request.plan.parent.mkdir()
    (tmp_path / "old.plan").write_bytes(OLD_PLAN)
    facts = {
        "recipe": RECIPE,
        "refittable_weights": ["w"],
        "structure_sha256": structure(request, ["w"]),
    }
    made_of = records(tmp_path / "old.plan")
    made_of["build"] |= facts
    enter("m/server/int8", tmp_path / "old.plan", made_of)
    write_json(STEP.recipe, RECIPE)
    edit_graph(request, lambda model: weights(model, lambda values: values * -0.5))
    return request


def edit_graph(request: BuildRequest, edit: Edit) -> None:
    model = onnx.load(request.onnx)
    edit(model)
    onnx.save(model, request.onnx)


def edit_engine(**facts: Any) -> None:
    path = engine_folder("m", "server", "int8") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["steps"]["build"].update(facts)
    write_json(path, manifest)


def plan() -> Path:
    return engine_folder("m", "server", "int8") / "model.plan"


def child(request: BuildRequest, code: str) -> Path:
    """An interpreter that answers as the child program does on a GPU; the request is `request`."""
    program = request.onnx.with_name("answer.py")
    program.write_text(
        f"import hashlib, json, sys\nrequest = json.loads(sys.stdin.read())\n{code}\n"
    )
    script = program.with_suffix(".sh")
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}"\n')
    script.chmod(0o755)
    return script


ANSWER = """
import numpy, pathlib
data = b"the new plan"
pathlib.Path(request["out"]).write_bytes(data)
with numpy.load(request["weights"]) as new:
    seen = {"weights": {name: float(new[name].sum()) for name in new}, "request": request}
pathlib.Path(__file__).with_name("seen.json").write_text(json.dumps(seen))
digest = hashlib.sha256(data).hexdigest()
print(json.dumps({"event": "result", "plan_sha256": digest, "plan_bytes": len(data), "seconds": 1.25, "runtime_version": "10.16.1.11"}))
"""


def test_an_engine_that_differs_in_weights_alone_is_the_base_of_a_refit(
    request_: BuildRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = base(STEP, request_)
    assert engine
    assert engine.name == "m/server/int8"
    assert refitted(STEP, request_, NOWHERE, 60) is None
    assert "nowhere/python cannot be started" in capsys.readouterr().out  # so a refit was tried


@pytest.mark.parametrize(
    "spoil",
    [
        lambda request: plan().parent.joinpath("manifest.json").unlink(),
        lambda request: plan().write_bytes(OLD_PLAN[:-1] + b"?"),
        lambda request: plan().write_bytes(OLD_PLAN[:-1]),
        lambda request: plan().unlink(),
        lambda request: write_json(STEP.recipe, {**RECIPE, "version": 2}),
        lambda request: write_json(
            STEP.recipe,
            {**RECIPE, "parameters": {**RECIPE["parameters"], "runtime_version": "10.15.0.0"}},
        ),
        lambda request: edit_graph(
            request, lambda model: setattr(model.graph.node[1], "op_type", "Sigmoid")
        ),
        lambda request: edit_engine(refittable_weights=[]),
        lambda request: edit_engine(structure_sha256="0" * 64),
    ],
    ids=[
        "no engine",
        "altered",
        "cut off",
        "no plan",
        "step's version",
        "TensorRT's version",
        "structure",
        "no weights",
        "digest",
    ],
)
def test_what_must_be_built(
    request_: BuildRequest, spoil: Callable[[BuildRequest], object]
) -> None:
    assert base(STEP, request_)
    spoil(request_)
    assert base(STEP, request_) is None
    assert refitted(STEP, request_, NOWHERE, 60) is None
    assert not list(request_.plan.parent.iterdir())


def test_other_layers_in_float_and_native_calibration_must_be_built(request_: BuildRequest) -> None:
    assert refitted(STEP, replace(request_, fp16_layers=("last", "first")), NOWHERE, 60) is None
    assert (
        refitted(
            STEP,
            replace(request_, native_images=request_.plan.with_name("calibration.npy")),
            NOWHERE,
            60,
        )
        is None
    )
    assert not list(request_.plan.parent.iterdir())


def test_the_child_is_given_new_weights_and_ranges(
    request_: BuildRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refitted(
        STEP, replace(request_, version_compatible=True, gpu="GPU-0"), child(request_, ANSWER), 60
    )
    assert found
    facts, measured = found
    assert measured == {"seconds": 1.25}
    assert facts["plan_sha256"] == sha256(request_.plan) != facts["refitted_from"] == sha256(plan())
    assert (facts["plan_bytes"], facts["refittable_weights"]) == (12, ["w"])
    assert facts["structure_sha256"] == structure(request_, ["w"])
    seen = json.loads(request_.onnx.with_name("seen.json").read_text())
    values = numpy_helper.to_array(onnx.load(request_.onnx).graph.initializer[0])
    assert seen["weights"] == pytest.approx({"weights/w": float(values.sum())}, rel=1e-4)
    asked = seen["request"]
    assert (asked["do"], asked["plan"], asked["plan_sha256"], asked["gpu"], asked["host_code"]) == (
        "refit",
        str(plan()),
        sha256(plan()),
        "GPU-0",
        True,
    )
    assert asked["ranges"] == pytest.approx({"x": 127.0, "c": 63.5})
    assert [path.name for path in request_.plan.parent.iterdir()] == ["model.plan"]
    assert plan().read_bytes() == OLD_PLAN
    assert "refitted the registered plan with new weights in 1.2 s" in capsys.readouterr().out


def test_without_a_cache_there_are_no_ranges(request_: BuildRequest) -> None:
    assert refitted(STEP, replace(request_, cache=None), child(request_, ANSWER), 60)
    assert json.loads(request_.onnx.with_name("seen.json").read_text())["request"]["ranges"] == {}


REFUSAL = 'print(json.dumps({"event": "error", "kind": "KIND", "message": "the graph has no weights called w"}))\nsys.exit(1)'


def test_weights_that_do_not_fit_are_a_warning_and_a_build(
    request_: BuildRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINERY_REPORT", "json")
    assert refitted(STEP, request_, child(request_, REFUSAL.replace("KIND", "refit")), 60) is None
    [said] = map(json.loads, capsys.readouterr().out.splitlines())
    message = "refit with tensorrt: the graph has no weights called w: it is built"
    assert said == {"event": "log", "severity": "warning", "message": message}
    assert not list(request_.plan.parent.iterdir())


@pytest.mark.parametrize("code", [REFUSAL.replace("KIND", "engine"), "sys.exit(3)"])
def test_a_registered_plan_that_does_not_load_or_crashes_is_built(
    request_: BuildRequest, code: str
) -> None:
    assert refitted(STEP, request_, child(request_, code), 60) is None
    assert not list(request_.plan.parent.iterdir())


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (ANSWER.replace("hexdigest()", "hexdigest()[::-1]"), IntegrityError, "a byte changed"),
        (ANSWER + "\nimport os; os.truncate(request['out'], 3)", IntegrityError, "a byte changed"),
    ],
)
def test_a_refit_that_goes_wrong_leaves_nothing(
    request_: BuildRequest, code: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        refitted(STEP, request_, child(request_, code), 60)
    assert not list(request_.plan.parent.iterdir())
    assert plan().read_bytes() == OLD_PLAN


@pytest.mark.skipif(find_spec("pycuda") is not None, reason="this environment has pycuda")
def test_a_toolchain_without_pycuda_says_so(
    request_: BuildRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real child program."""
    assert refitted(STEP, request_, Path(sys.executable), 60) is None
    assert (
        "NumPy and pycuda are needed to use a GPU: No module named 'pycuda': it is built"
        in capsys.readouterr().out
    )
    assert not list(request_.plan.parent.iterdir())
