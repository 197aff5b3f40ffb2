"""On a machine with an NVIDIA GPU: engines that the flow built are validated, inspected, used and refitted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from enginery.gpu.inventory import Gpu
from enginery.system.files import sha256
from tests.conftest import Checkout, copy_checkout, small, use_onnx
from tests.gpu.common import MODEL, ON_GPU, OTHER, PYTHON, TACTICS
from tests.test_flow import build as run_build
from tests.test_flow import counted, refused

pytestmark = ON_GPU

BUILDS = {f"build {MODEL} {precision} for server" for precision in ("fp32", "fp16", "int8")}


def on_this_gpu(params: dict[str, Any]) -> None:
    params["toolchains"] = {"trt": {"python": str(PYTHON)}}
    target = {
        "runtime": "tensorrt",
        "toolchain": "trt",
        "optimization_level": 0,
        "refittable": True,
    }
    params["targets"]["server"] = {
        **target,
        **({"tactic_sources": list(TACTICS)} if TACTICS else {}),
    }
    params["matrix"]["targets"] = ["server"]


def only_fp32(params: dict[str, Any]) -> None:
    params["matrix"]["precisions"], params["int8"] = ["fp32"], {}


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory, server: str) -> Checkout:
    """fp32, fp16 and int8 of the user's own ONNX, built by the flow on this GPU."""
    checkout = Checkout(copy_checkout(tmp_path_factory.mktemp("served") / "checkout ü"), server)
    checkout.change(small)
    checkout.change(on_this_gpu)
    checkout.write_matrix()
    made = checkout.run("dvc", "repro", f"export@{MODEL}")
    assert made.returncode == 0, made.stdout + made.stderr
    shutil.copyfile(
        checkout.root / f"artifacts/models/{MODEL}/export/model.onnx", checkout.root / "own.onnx"
    )
    checkout.change(lambda params: use_onnx(params, "own.onnx"))
    assert counted(run_build(checkout), "Completed") >= BUILDS | {"timing trt"}
    return checkout


@pytest.fixture
def served(_served: Checkout, tmp_path: Path) -> Checkout:
    """A copy, with everything up to date."""
    shutil.copytree(_served.root, tmp_path / "served ü", symlinks=True)
    return Checkout(tmp_path / "served ü", _served.server)


def test_the_manifest_names_the_graph_that_was_built_from(served: Checkout) -> None:
    graph = sha256(served.root / f"artifacts/models/{MODEL}/fp32/graph/model.onnx")
    for precision in ("fp32", "fp16", "int8"):
        assert (
            json.loads(served.run("enginery", "show", f"server/{precision}", "--json").stdout)[
                "digests"
            ]["graph"]
            == graph
        )


def test_nothing_to_do(served: Checkout) -> None:
    assert counted(run_build(served), "Cached") >= BUILDS | {"timing trt"}
    assert "up to date" in served.run("enginery", "status").stdout


def validate(checkout: Checkout, *engines: str) -> None:
    """Run engines; other work on this GPU may disturb the times, and then they are run again, as
    the message says.
    """
    for _ in range(3):
        result = checkout.run("enginery", "validate", *engines)
        print(result.stdout, result.stderr)
        if "measure again" not in result.stderr:
            break
    assert result.returncode == 0
    listed = json.loads(checkout.run("enginery", "list", "--json").stdout)
    states = {f"{engine['target']}/{engine['precision']}": engine["state"] for engine in listed}
    assert {states[engine] for engine in engines} == {"validated"}


def test_engines_pass_on_their_gpu(served: Checkout) -> None:
    validate(served, "server/fp32", "server/fp16")
    report = json.loads((served.root / f"artifacts/reports/{MODEL}/server/fp16.json").read_text())
    assert [(point["profile"], point["which"]) for point in report["points"]] == [(0, "opt")]
    assert report["clocks"]
    assert report["gpu"]["uuid"].startswith("GPU-")
    exported = served.run(
        "enginery", "export", "ultralytics", "server/fp16", "--out", "server.engine"
    )
    assert exported.returncode == 0, exported.stderr


def test_engines_pass_on_the_gpu_that_their_target_names(served: Checkout, last: Gpu) -> None:
    served.change(lambda params: params["targets"]["server"].update(gpu=last.index))
    run_build(served)
    validate(served, "server/fp16")
    assert (
        json.loads((served.root / f"artifacts/reports/{MODEL}/server/fp16.json").read_text())[
            "gpu"
        ]["uuid"]
        == last.uuid
    )


def test_inspection(served: Checkout) -> None:
    words = ("--top", "5", "--json", "layers.json", "--out", "viewers")
    found = served.run("enginery", "inspect", "server/int8", *words)
    print(found.stdout, found.stderr)
    assert found.returncode == 0
    layers: list[Mapping[str, Any]] = json.loads((served.root / "layers.json").read_text())[
        "summary"
    ]
    assert {layer["precision"] for layer in layers} <= {"int8", "fp16", "fp32", "other"}
    assert sum(layer["share"] for layer in layers) == pytest.approx(1, abs=0.01)
    exported = json.loads((served.root / "viewers/layers.json").read_text())
    count, *records = json.loads((served.root / "viewers/profile.json").read_text())
    assert count["count"] == 50 and {"images", "output0"} <= set(exported["Bindings"])
    assert {each["name"] for each in records} <= {each["Name"] for each in exported["Layers"]}
    assert all(0 <= each["medianMs"] <= each["timeMs"] for each in records)


def test_prediction(served: Checkout) -> None:
    images = sorted((served.root / "data/demo/validation/images").iterdir())[:2]
    result = served.run("enginery", "predict", "server/fp16", *map(str, images), "--out", "seen")
    print(result.stdout, result.stderr)
    assert result.returncode == 0
    assert len(list((served.root / "seen").iterdir())) == 2
    assert "inference" in result.stdout


def test_new_weights_are_refitted(served: Checkout) -> None:
    """Another training of the same network: every kernel a little different."""
    for tensor in (model := onnx.load(served.root / "own.onnx")).graph.initializer:
        values = numpy_helper.to_array(tensor)
        if (
            values.dtype == np.float32 and values.ndim == 4 and "dfl" not in tensor.name
        ):  # DFL's are no trained weights
            tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.001), tensor.name))
    onnx.save(model, served.root / "own.onnx")
    assert counted(run_build(served), "Completed") >= BUILDS
    refits = {}
    for precision in ("fp32", "fp16", "int8"):
        built = json.loads(
            (served.root / f"artifacts/build/{MODEL}/server/{precision}/record.json").read_text()
        )
        seconds = json.loads(
            (served.root / f"artifacts/build/{MODEL}/server/{precision}/measured.json").read_text()
        )["seconds"]
        refits[precision] = "refitted_from" in built
        print(precision, "refitted" if refits[precision] else "built", f"in {seconds} s")
    assert refits["fp32"]
    assert refits["fp16"]
    assert refits["int8"]
    validate(served, "server/fp32", "server/fp16")


def test_profiles_are_validated_at_min_opt_and_max(served: Checkout) -> None:
    served.change(only_fp32)
    served.change(
        lambda params: params["models"][MODEL].update(batch=[1, 2, 4], profiles=[{"batch": 8}])
    )
    served.change(
        lambda params: params["models"][MODEL].update(source="data/demo/yolov8n-shapes.pt")
    )
    run_build(served)
    validate(served, "server/fp32")
    report = json.loads((served.root / f"artifacts/reports/{MODEL}/server/fp32.json").read_text())
    shapes = [(point["profile"], point["which"], point["shape"][0]) for point in report["points"]]
    assert shapes == [(0, "opt", 2), (0, "min", 1), (0, "max", 4), (1, "opt", 8)]


def test_native_calibration_from_params(served: Checkout) -> None:
    served.change(lambda params: params["targets"]["server"].update(calibration="native"))
    assert counted(run_build(served, "--precision", "int8"), "Completed") >= {
        f"build {MODEL} int8 for server"
    }
    shown = json.loads(served.run("enginery", "show", "server/int8", "--json").stdout)
    assert shown["steps"]["build"]["native_cache"].startswith("TRT-")


@pytest.mark.skipif(not OTHER, reason="ENGINERY_GPU_OTHER names no toolchain with another TensorRT")
def test_another_tensorrt_and_back(served: Checkout) -> None:
    """The toolchain's TensorRT changes: its engine is rebuilt; it changes back: it is restored."""
    plan, name = (
        served.root / f"artifacts/engines/{MODEL}/server/fp32/model.plan",
        f"build {MODEL} fp32 for server",
    )

    def older(params: dict[str, Any]) -> None:
        params["targets"]["server"].pop("optimization_level")

    def newer(params: dict[str, Any]) -> None:
        params["toolchains"]["trt"].update(python=str(PYTHON))
        params["targets"]["server"]["optimization_level"] = 0

    served.change(only_fp32)
    before = sha256(plan)
    served.change(lambda params: params["toolchains"]["trt"].update(python=OTHER))
    refused(served, "targets.server.optimization_level: tensorrt 8.5.3.1 has no optimization level")
    served.change(older)
    assert name in counted(run_build(served), "Completed")
    assert sha256(plan) != before
    served.change(newer)
    assert name in counted(run_build(served), "Restored")
    assert sha256(plan) == before
