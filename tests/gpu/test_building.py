"""On a machine with an NVIDIA GPU: TensorRT builds, runs, calibrates and refits for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from enginery.errors import BuildError, DataError, EngineError, GpuError, RefitError, ToolchainError
from enginery.gpu.inventory import Gpu, check_room, choose, gpus, state
from enginery.graphs.structure import save_weights
from enginery.system.files import sha256
from enginery.toolchain.client import build, probe, refit
from enginery.toolchain.requests import WEIGHT_PREFIX, BuildRequest, RefitRequest
from tests.gpu.common import ON_GPU, PYTHON, expected, run_at
from tests.test_toolchain import graph, silent

pytestmark = ON_GPU


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


def test_an_engine_is_built_and_run_on_the_gpu_that_is_named(
    request_: BuildRequest, tmp_path: Path, last: Gpu
) -> None:
    digest = build(PYTHON, replace(request_, gpu=last.uuid), silent, 120).plan_sha256
    assert (
        run_at(request_.plan, digest, tmp_path, (1, 3, 16, 16), gpu=last.uuid).gpu["uuid"]
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
