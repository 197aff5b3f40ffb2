"""The gate: which engines are registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tasks.register
from enginery.errors import GateError, IntegrityError
from enginery.project.paths import build_folder, engine_folder, model_folder
from enginery.project.stage import Stage
from enginery.registry.store import engine_in
from enginery.system.files import read_json, write_json
from tests.registered import compared, records

STEP = Stage("register", "m", "server", "int8")


def made(**report: Any) -> dict[str, Any]:
    """What all steps before the registration wrote."""
    build, precision = build_folder("m", "server", "int8"), model_folder("m", "int8")
    build.mkdir(parents=True)
    (build / "model.plan").write_bytes(b"plan")
    found = records(build / "model.plan")
    found["validate"]["report"] = compared(**report)
    write_json(model_folder("m", "export") / "record.json", found["export"])
    write_json(model_folder("m", "simplify") / "record.json", found["simplify"])
    write_json(precision / "graph" / "record.json", found["quantize"])
    write_json(precision / "validation.json", found["validate"])
    write_json(build / "record.json", found["build"])
    write_json(STEP.recipe, found["register"]["recipe"])
    return found


def test_an_engine_that_passes_is_registered(here: list[Any]) -> None:
    expected = made()
    tasks.register.register(STEP)
    engine = engine_in(engine_folder("m", "server", "int8"))
    assert engine
    assert (engine.plan.read_bytes(), engine.state) == (b"plan", "candidate")
    written = read_json(engine.folder / "manifest.json")
    assert written["steps"] == expected
    assert here == [("registered m int8 for server as candidate",)]


def test_an_engine_of_tensorrts_own_ranges_is_not_praised_for_ours(here: list[Any]) -> None:
    made()
    path = build_folder("m", "server", "int8") / "record.json"
    write_json(path, {**read_json(path), "native_cache": "TRT"})
    quantized = model_folder("m", "int8") / "graph" / "record.json"
    calibration = {
        "recipe": {
            "step": "calibrate",
            "version": 1,
            "tools": {},
            "parameters": {"calibration": "c"},
        },
        "images": 1,
        "images_sha256": "0" * 64,
        "own_quantization": False,
    }
    write_json(quantized, {**read_json(quantized), "calibration": calibration})
    tasks.register.register(STEP)
    words = "its metrics are those of Enginery's ranges; what TensorRT's own cost, only `enginery validate` tells"
    assert here[1:] == [(words, "warning")]


@pytest.mark.parametrize("quantized", [[], ["layer"]])
def test_an_engine_that_fails_leaves_the_registry(quantized: list[str]) -> None:
    made(value=0.3)
    path = model_folder("m", "int8") / "graph" / "record.json"
    write_json(path, {**read_json(path), "quantized": quantized})
    with pytest.raises(GateError) as error:
        tasks.register.register(STEP)
    cure = (
        "`enginery sensitivity m --propose` finds the fewest layers to keep in float with which it passes"
        if quantized
        else "Look at the graph's validation, or loosen `validation` in params.yaml if this loss is acceptable"
    )
    assert str(error.value) == (
        "m int8 for server is not registered: mAP50-95 0.3000 against 0.5000 of the FP32 original, "
        f"a drop of 0.01 is allowed. {cure}"
    )
    assert not Path("artifacts/engines").exists()


def test_a_plan_that_is_not_what_was_built_is_not_registered() -> None:
    made()
    (build_folder("m", "server", "int8") / "model.plan").write_bytes(b"plaN")
    with pytest.raises(IntegrityError, match="a byte changed"):
        tasks.register.register(STEP)
    assert not Path("artifacts/engines").exists()
