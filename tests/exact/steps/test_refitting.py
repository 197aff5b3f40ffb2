"""New weights in a registered plan, and where a plan must be built."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tasks.refitting
from enginery.calibration import cache
from enginery.errors import RefitError
from enginery.project.engine_name import EngineName
from enginery.project.stage import Stage
from enginery.registry.manifest import Manifest, compose
from enginery.registry.records import parse
from enginery.toolchain.requests import BuildRequest, RefitResult
from tests.exact.steps.common import MODEL, network, write_recipe
from tests.registered import records_of


def test_the_structure_is_the_graph_but_for_its_weights() -> None:
    onnx.save(network(), "g.onnx")
    one = BuildRequest("tensorrt", Path("g.onnx"), Path("p"), "g", fp16_layers=("a", "b"))
    digest = tasks.refitting.structure(one, ["w"])
    changed = network()
    changed.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    )
    onnx.save(changed, "g.onnx")
    assert tasks.refitting.structure(one, ["w"]) == digest
    assert tasks.refitting.structure(one, []) != digest
    assert tasks.refitting.structure(replace(one, fp16_layers=("a",)), ["w"]) != digest


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A registered engine from which a refit may begin."""
    from types import SimpleNamespace

    step = Stage("build", MODEL, "rtx-ada", "int8")
    made_of = records_of("0" * 64, 4)
    made = write_recipe(step, workspace_mib=None, **made_of["build"]["recipe"]["parameters"])
    onnx.save(network(), "g.onnx")
    request = BuildRequest(
        "tensorrt",
        Path("g.onnx"),
        Path("out/model.plan"),
        "g",
        gpu="GPU-1",
        version_compatible=True,
        dla_core=1,
        refittable=True,
    )
    Path("out").mkdir()
    made_of["build"] |= {
        "recipe": made,
        "refittable_weights": ["w"],
        "structure_sha256": tasks.refitting.structure(request, ["w"]),
        "skipped_tactics": 2,
    }
    name = EngineName(MODEL, "rtx-ada", "int8")
    manifest = parse(json.dumps(compose(name, made_of)).encode(), Manifest)
    found = SimpleNamespace(
        step=step,
        request=request,
        manifest=manifest,
        plan=Path("registered.plan"),
        harm=[],
        asked=[],
        fails=None,
        weights={},
    )

    def refit(python: Path, given: Any, on_event: Any, limit: float) -> RefitResult:
        found.asked.append((python, given, limit))
        with np.load(given.weights) as arrays:
            found.weights = {name: arrays[name].shape for name in arrays.files}
        if found.fails:
            raise found.fails
        return RefitResult("new", 7, 1.26, "10.16")

    monkeypatch.setattr(
        tasks.refitting,
        "engine_in",
        lambda folder: found if folder == Path(f"artifacts/engines/{MODEL}/rtx-ada/int8") else None,
    )
    monkeypatch.setattr(tasks.refitting, "damage", lambda engine: found.harm)
    monkeypatch.setattr(tasks.refitting, "refit", refit)
    return found


def refitted(engine: Any, **changed: Any) -> Any:
    return tasks.refitting.refitted(
        engine.step, replace(engine.request, **changed), Path("/env/python"), 9.5
    )


def test_new_weights_go_into_the_registered_plan(engine: Any, said: list[Any]) -> None:
    cache.write(cache.from_thresholds({"images": 1.0}), Path("c.cache"))
    facts, measured = refitted(engine, cache=Path("c.cache"))
    assert facts == {
        "plan_sha256": "new",
        "plan_bytes": 7,
        "weights_sha256": None,
        "runtime_version": "10.16",
        "messages": [],
        "refitted_from": "0" * 64,
        "refittable_weights": ["w"],
        "structure_sha256": engine.manifest.steps.build.structure_sha256,
        "skipped_tactics": 2,
    }
    assert measured == {"seconds": 1.26}
    [(python, given, limit)] = engine.asked
    assert (python, limit, engine.weights) == (
        Path("/env/python"),
        9.5,
        {"weights/w": (3, 3, 1, 1)},
    )
    assert (given.runtime, given.plan, given.plan_sha256, given.gpu) == (
        "tensorrt",
        Path("registered.plan"),
        "0" * 64,
        "GPU-1",
    )
    assert (given.host_code, given.dla_core, given.out) == (True, 1, Path("out/model.plan"))
    assert given.ranges == pytest.approx({"images": 1.0})
    assert list(Path("out").iterdir()) == []
    assert said == [("refitted the registered plan with new weights in 1.3 s", "info")]
    refitted(engine)
    assert engine.asked[1][1].ranges == {}


def test_where_a_plan_must_be_built(engine: Any, said: list[Any]) -> None:
    assert refitted(engine, native_images=Path("i.npy")) is None
    engine.harm = ["a byte changed"]
    assert refitted(engine) is None
    engine.harm = []
    assert said == []
    assert refitted(engine, fp16_layers=("a",)) is None
    assert said == [
        (
            "more than the weights that the registered plan can replace has changed: it is built",
            "info",
        )
    ]
    manifest, built = engine.manifest, engine.manifest.steps.build
    recipe = built.recipe.model_copy(update={"version": 2})
    for changed in ({"recipe": recipe}, {"refittable_weights": ()}):
        build = {"build": built.model_copy(update=changed)}
        steps = manifest.steps.model_copy(update=build)
        engine.manifest = manifest.model_copy(update={"steps": steps})
        assert refitted(engine) is None
    engine.manifest = manifest
    assert engine.asked == []
    engine.fails = RefitError("they do not fit", "Build it")
    assert refitted(engine) is None
    assert said[1:] == [("they do not fit: it is built", "warning")]
    assert list(Path("out").iterdir()) == []
    engine.step = Stage("build", MODEL, "rtx-ada", "fp16")
    write_recipe(engine.step)
    assert refitted(engine) is None
