"""On a machine with an NVIDIA GPU: TensorRT builds, calibrates, refits, measures and inspects for
real.

ENGINERY_GPU_TOOLCHAIN names an interpreter with tensorrt (8.5 to 10), NumPy and pycuda;
ENGINERY_GPU_OTHER one with another version. ENGINERY_GPU_TACTICS limits the tactic sources, for a
toolchain without cuBLAS and cuDNN.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from enginery.errors import (
    BuildError,
    ChildCrashedError,
    DataError,
    EngineError,
    GpuError,
    IntegrityError,
    RefitError,
    ToolchainError,
)
from enginery.gpu.inventory import Gpu, check_room, choose, gpus, state
from enginery.gpu.turns import gpu_lock
from enginery.graphs.structure import save_weights
from enginery.system.files import sha256
from enginery.toolchain.client import build, measure, probe, refit
from enginery.toolchain.requests import (
    WEIGHT_PREFIX,
    BuildRequest,
    Measurement,
    MeasureRequest,
    PointRequest,
    RefitRequest,
)
from tests.conftest import Checkout, copy_checkout, small, use_onnx
from tests.test_flow import build as run_build
from tests.test_flow import counted, refused
from tests.test_toolchain import graph, kill_child, silent

TOOLCHAIN, OTHER = os.environ.get("ENGINERY_GPU_TOOLCHAIN"), os.environ.get("ENGINERY_GPU_OTHER")
TACTICS = tuple(filter(None, os.environ.get("ENGINERY_GPU_TACTICS", "").split(","))) or None
NO_GPU = "no GPU toolchain: ENGINERY_GPU_TOOLCHAIN names an interpreter with tensorrt, NumPy and pycuda on a machine with a GPU"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not TOOLCHAIN, reason=NO_GPU)]
PYTHON = Path(TOOLCHAIN or "")
MODEL = "yolov8n-shapes"
BUILDS = {f"build {MODEL} {precision} for server" for precision in ("fp32", "fp16", "int8")}


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    onnx_file = graph(tmp_path / "g.onnx")
    return BuildRequest(
        "tensorrt",
        onnx_file,
        tmp_path / "g.plan",
        "g",
        optimization_level=0,
        tactic_sources=TACTICS,
    )


@pytest.fixture
def dynamic(request_: BuildRequest) -> BuildRequest:
    names = ("min", "opt", "max")
    shapes = [
        {name: [size, 3, 16, 16] for name, size in zip(names, sizes, strict=True)}
        for sizes in ((1, 2, 4), (8, 8, 16))
    ]
    return replace(
        request_,
        onnx=graph(request_.onnx, batch="n"),
        profiles=tuple({"x": shape} for shape in shapes),
    )


def run_at(
    plan: Path,
    digest: str,
    folder: Path,
    shape: tuple[int, ...],
    profile: int = 0,
    images: int = 3,
    **more: Any,
) -> Measurement:
    """Run an engine on random images and compare its outputs with ONNX Runtime's."""
    rows = np.random.default_rng(1).random((images, *shape[1:]), np.float32)
    np.save(folder / "images.npy", rows)
    request = MeasureRequest(
        "tensorrt",
        plan,
        digest,
        points=(PointRequest(shape, folder / "images.npy", folder, profile),),
        runs=20,
        **more,
    )
    return measure(PYTHON, request, silent, 120)


def expected(onnx_file: Path, folder: Path) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    return np.concatenate(
        [session.run(None, {"x": row[None]})[0] for row in np.load(folder / "images.npy")]
    )


def test_the_gpu_is_known_and_chosen_by_index_or_uuid() -> None:
    [first, *_] = gpus()
    assert choose(None) == choose(first.index) == choose(first.uuid) == first
    info = probe(PYTHON, "tensorrt", first.uuid)
    assert [found["uuid"] for found in info.gpus] == [first.uuid]
    assert info.gpus[0]["compute_capability"] == first.compute_capability
    with pytest.raises(GpuError, match=r"there is no GPU 99 on this machine. It has 0 "):
        choose(99)
    assert 0 < state(first).free_mib <= first.memory_mib
    with pytest.raises(GpuError, match=r"MiB free, 9999999 are needed; on it: "):
        check_room(first, 9_999_999)


@pytest.fixture
def last() -> Gpu:
    """The last of several GPUs, which nothing chooses by itself."""
    [*others, last] = gpus()
    if not others:
        pytest.skip("this machine has one GPU")
    return last


def test_an_engine_is_built_and_run_on_the_gpu_that_is_named(
    request_: BuildRequest, tmp_path: Path, last: Gpu
) -> None:
    digest = build(PYTHON, replace(request_, gpu=last.uuid), silent, 120).plan_sha256
    assert (
        run_at(request_.plan, digest, tmp_path, (1, 3, 16, 16), gpu=last.uuid)["gpu"]["uuid"]
        == last.uuid
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "0.npy"), expected(request_.onnx, tmp_path), rtol=1e-4, atol=1e-4
    )


def test_an_engine_does_what_its_graph_does(request_: BuildRequest, tmp_path: Path) -> None:
    digest = build(PYTHON, request_, silent, 120).plan_sha256
    found = run_at(request_.plan, digest, tmp_path, (1, 3, 16, 16))
    np.testing.assert_allclose(
        np.load(tmp_path / "0.npy"), expected(request_.onnx, tmp_path), rtol=1e-4, atol=1e-4
    )
    timing = found.points[0].timing
    assert timing
    assert (
        timing["gpu"]["min"] <= timing["gpu"]["p50"] <= timing["gpu"]["p99"] <= timing["gpu"]["max"]
    )
    assert timing["cuda_graph"]["p50"] > 0
    assert timing["images_per_second"] > 0


def test_several_profiles_and_a_shape_outside_them(dynamic: BuildRequest, tmp_path: Path) -> None:
    digest = build(PYTHON, dynamic, silent, 120).plan_sha256
    for shape, profile in (((1, 3, 16, 16), 0), ((4, 3, 16, 16), 0), ((16, 3, 16, 16), 1)):
        run_at(dynamic.plan, digest, tmp_path, shape, profile, images=5)
        np.testing.assert_allclose(
            np.load(tmp_path / "0.npy"), expected(dynamic.onnx, tmp_path), rtol=1e-4, atol=1e-4
        )
    with pytest.raises(
        EngineError,
        match=r"input x takes \(1, 3, 16, 16\) to \(4, 3, 16, 16\) in profile 0, not \(5, 3, 16, 16\)",
    ):
        run_at(dynamic.plan, digest, tmp_path, (5, 3, 16, 16))


@pytest.mark.parametrize(
    "options",
    [
        {"tf32": True},
        {"sparsity": True},
        {"hardware_compatible": True},
        {"version_compatible": True},
    ],
)
def test_options(request_: BuildRequest, tmp_path: Path, options: dict[str, bool]) -> None:
    missing = {
        "hardware_compatible": "hardware compatible",
        "version_compatible": "version compatible",
    }.get(next(iter(options)))
    if missing and missing not in probe(PYTHON, "tensorrt").features:
        pytest.skip(f"this TensorRT has no {missing}")
    try:
        digest = build(PYTHON, replace(request_, **options), silent, 120).plan_sha256
    except ToolchainError as error:
        assert "Unable to load library: libnvinfer_lean" in str(error)  # a wheel of its own
        pytest.skip(str(error))
    run_at(
        request_.plan, digest, tmp_path, (1, 3, 16, 16), host_code="version_compatible" in options
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "0.npy"), expected(request_.onnx, tmp_path), rtol=1e-2, atol=1e-2
    )


def test_there_is_no_dla_here(request_: BuildRequest) -> None:
    with pytest.raises(BuildError, match="dla_core: 0: this GPU has 0 DLA cores"):
        build(PYTHON, replace(request_, precision="fp16", dla_core=0), silent, 120)


def test_native_calibration_and_one_without_data(request_: BuildRequest, tmp_path: Path) -> None:
    np.save(
        tmp_path / "calibration.npy", np.random.default_rng(0).random((8, 3, 16, 16), np.float32)
    )
    int8 = replace(
        request_,
        precision="int8",
        native_images=tmp_path / "calibration.npy",
        cache=tmp_path / "native.cache",
    )
    build(PYTHON, int8, silent, 120)
    assert (tmp_path / "native.cache").read_text().startswith("TRT-")
    np.save(tmp_path / "calibration.npy", np.empty((0, 3, 16, 16), np.float32))
    with pytest.raises(
        DataError, match="calibration needs at least one batch of 1 images and has 0"
    ):
        build(PYTHON, replace(int8, plan=tmp_path / "none.plan"), silent, 120)
    assert not (tmp_path / "none.plan").exists()


def test_a_cache_that_tensorrt_does_not_take(request_: BuildRequest, tmp_path: Path) -> None:
    (tmp_path / "foreign.cache").write_text("TRT-1-EntropyCalibration2\nx: 3c010a14\n")
    with pytest.raises(BuildError, match="could not build"):
        build(
            PYTHON,
            replace(request_, precision="int8", cache=tmp_path / "foreign.cache"),
            silent,
            120,
        )
    assert not request_.plan.exists()


def test_timing_caches_are_kept_merged_and_foreign_ones_left_out(
    request_: BuildRequest, tmp_path: Path
) -> None:
    mine, other, broken = (tmp_path / f"{name}.timing" for name in ("mine", "other", "broken"))
    timed = replace(request_, optimization_level=3)
    build(PYTHON, replace(timed, timing_cache=mine), silent, 120)
    build(
        PYTHON,
        replace(timed, onnx=graph(request_.onnx, "Sigmoid"), timing_cache=other),
        silent,
        120,
    )
    broken.write_bytes(b"no timing cache")
    both = replace(
        timed, timing_caches=(mine, other, broken), timing_cache=tmp_path / "both.timing"
    )
    messages = build(PYTHON, both, silent, 120).messages
    assert (tmp_path / "both.timing").stat().st_size > max(
        mine.stat().st_size, other.stat().st_size
    )
    assert [
        message
        for message in messages
        if "broken.timing: not of this TensorRT and GPU, left out" in message
    ]


def test_new_weights_without_a_build(request_: BuildRequest, tmp_path: Path) -> None:
    built = build(PYTHON, replace(request_, refittable=True), silent, 120)
    assert built.refittable_weights == ("w",)
    model = onnx.load(request_.onnx)
    weights = numpy_helper.to_array(model.graph.initializer[0]) * -0.5
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "new.onnx")
    save_weights(model, {"w"}, tmp_path / "w.npz", WEIGHT_PREFIX)
    wanted = RefitRequest(
        "tensorrt",
        request_.plan,
        built.plan_sha256,
        weights=tmp_path / "w.npz",
        out=tmp_path / "new.plan",
    )
    digest = refit(PYTHON, wanted, silent, 120).plan_sha256
    assert digest == sha256(tmp_path / "new.plan") != built.plan_sha256
    run_at(tmp_path / "new.plan", digest, tmp_path, (1, 3, 16, 16))
    np.testing.assert_allclose(
        np.load(tmp_path / "0.npy"), expected(tmp_path / "new.onnx", tmp_path), rtol=1e-4, atol=1e-4
    )
    np.savez(tmp_path / "w.npz", **{f"{WEIGHT_PREFIX}other": weights})
    with pytest.raises(RefitError, match="the weights other do not fit"):
        refit(PYTHON, replace(wanted, out=tmp_path / "none.plan"), silent, 120)
    assert not (tmp_path / "none.plan").exists()


def test_plans_that_must_not_be_loaded(request_: BuildRequest, tmp_path: Path) -> None:
    digest = build(PYTHON, request_, silent, 120).plan_sha256
    data = request_.plan.read_bytes()
    request_.plan.write_bytes(data[:-1])
    with pytest.raises(
        IntegrityError, match="its digest is not the one recorded; it was not loaded"
    ):
        run_at(request_.plan, digest, tmp_path, (1, 3, 16, 16))
    with pytest.raises(
        EngineError, match="does not run here"
    ):  # recorded so: TensorRT itself refuses it
        request_.plan.write_bytes(data[: len(data) // 2])
        run_at(request_.plan, sha256(request_.plan), tmp_path, (1, 3, 16, 16))


@pytest.mark.skipif(not OTHER, reason="ENGINERY_GPU_OTHER names no toolchain with another TensorRT")
def test_an_engine_of_another_tensorrt(request_: BuildRequest, tmp_path: Path) -> None:
    digest = build(
        Path(str(OTHER)), replace(request_, optimization_level=None), silent, 120
    ).plan_sha256
    with pytest.raises(
        EngineError, match="An engine runs on the GPU and with the TensorRT it was built for"
    ):
        run_at(request_.plan, digest, tmp_path, (1, 3, 16, 16))


@pytest.mark.parametrize("after", [0.5, 2.0, 5.0, 8.0])
def test_a_child_killed_at_any_time(request_: BuildRequest, after: float) -> None:
    import threading

    np.save(
        request_.onnx.with_suffix(".npy"),
        np.random.default_rng(0).random((64, 3, 16, 16), np.float32),
    )
    wanted = replace(
        request_,
        precision="int8",
        native_images=request_.onnx.with_suffix(".npy"),
        cache=request_.onnx.with_suffix(".cache"),
        timing_cache=request_.onnx.with_suffix(".timing"),
        optimization_level=3,
    )
    timer = threading.Timer(after, kill_child, [{}])
    timer.start()
    with pytest.raises(ChildCrashedError, match="killed by SIGKILL"):
        build(PYTHON, wanted, silent, 120)
    assert not request_.plan.exists()
    assert not [
        path
        for path in request_.plan.parent.iterdir()
        if path.suffix == ".part" and "timing" not in path.name
    ]
    build(PYTHON, wanted, silent, 120)


def test_a_gpu_that_disappears(request_: BuildRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a driver shows it: no device is visible any more."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(
        Exception, match=r"TensorRT does not start|the GPU failed|no CUDA-capable device"
    ):
        build(PYTHON, request_, silent, 120)


def test_builds_on_one_gpu_queue(tmp_path: Path) -> None:
    [first, *_] = gpus()
    code = "import sys; from enginery.gpu.turns import gpu_lock\nwith gpu_lock(sys.argv[1], print): print('mine', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, first.uuid],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdin
    holder.stdout.readline()
    said: list[str] = []

    def let_go(message: str) -> None:
        said.append(message)
        holder.stdin.close()  # type: ignore[union-attr]

    began = time.monotonic()
    with gpu_lock(first.uuid, let_go):
        assert said == [f"waiting for GPU {first.uuid}: process {holder.pid} uses it"]
        assert time.monotonic() - began < 20
    holder.wait()


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
    found = served.run("enginery", "inspect", "server/int8", "--top", "5", "--json", "layers.json")
    print(found.stdout, found.stderr)
    assert found.returncode == 0
    layers: list[Mapping[str, Any]] = json.loads((served.root / "layers.json").read_text())[
        "summary"
    ]
    assert {layer["precision"] for layer in layers} <= {"int8", "fp16", "fp32", "other"}
    assert sum(layer["share"] for layer in layers) == pytest.approx(1, abs=0.01)


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
