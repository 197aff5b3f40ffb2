"""The builder's configuration, option by option, against recorders of TensorRT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import base, building, calibrating, refused, request
from tests.recorder.flags import (
    BuilderFlag,
    DataType,
    DeviceType,
    HardwareCompatibilityLevel,
    MemoryPoolType,
    ProfilingVerbosity,
)


def configured(out: Out | None = None, trt: Any = None, **changed: Any) -> Any:
    """The configuration that TensorRT would get."""
    trt = trt or tensorrt()
    builder = trt.Builder(None)
    return building.configure(
        trt, builder, builder.create_network(0), request(**changed), out or Out()
    )


def test_the_default_configuration() -> None:
    found = configured()
    assert found._flags == set()  # TF32 is TensorRT's default, not ours
    assert found.profiling_verbosity == ProfilingVerbosity.DETAILED
    assert (found._pools, found._tactics, found._profiles, found.int8_calibrator) == (
        {},
        None,
        [],
        None,
    )
    assert (found.builder_optimization_level, found.hardware_compatibility_level) == (
        3,
        HardwareCompatibilityLevel.NONE,
    )
    assert found.progress_monitor is not None
    assert configured(trt=tensorrt(without=("IProgressMonitor",))).progress_monitor is None


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"tf32": True}, {BuilderFlag.TF32}),
        ({"sparsity": True}, {BuilderFlag.SPARSE_WEIGHTS}),
        ({"version_compatible": True}, {BuilderFlag.VERSION_COMPATIBLE}),
        ({"refittable": True}, {BuilderFlag.REFIT}),
        ({"precision": "fp32"}, set()),
        ({"precision": "fp16"}, {BuilderFlag.FP16}),
        ({"precision": "int8"}, {BuilderFlag.FP16, BuilderFlag.INT8}),
        (
            {"precision": "int8", "fp16_layers": ["b"]},
            {BuilderFlag.FP16, BuilderFlag.INT8, BuilderFlag.PREFER_PRECISION_CONSTRAINTS},
        ),
        ({"precision": "fp16", "fp16_layers": ["b"]}, {BuilderFlag.FP16}),
        ({"precision": "int8", "strongly_typed": True, "fp16_layers": ["b"]}, set()),
    ],
)
def test_flags(options: dict[str, Any], flags: set[BuilderFlag]) -> None:
    assert configured(**options)._flags == flags


def test_options_with_values() -> None:
    found = configured(
        workspace_mib=64,
        optimization_level=0,
        tactic_sources=["CUDNN", "JIT_CONVOLUTIONS"],
        hardware_compatible=True,
    )
    assert found._pools == {MemoryPoolType.WORKSPACE: 64 * 1024 * 1024}
    assert (found.builder_optimization_level, found._tactics) == (0, 0b10100)
    assert found.hardware_compatibility_level == HardwareCompatibilityLevel.AMPERE_PLUS
    assert configured(tactic_sources=[])._tactics == 0
    assert configured(workspace_mib=0)._pools == {}
    with refused(
        "parameter",
        "tactic_sources: MINE: unknown; this version has CUBLAS, CUBLAS_LT, CUDNN, EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS",
    ):
        configured(tactic_sources=["CUDNN", "MINE", "YOURS"])


def test_a_strongly_typed_tensorrt_and_rtx_get_no_precision() -> None:
    assert configured(trt=tensorrt(strong=True), precision="int8")._flags == set()
    rtx = configured(trt=tensorrt(strong=True), runtime="tensorrt_rtx")
    assert rtx._flags == {BuilderFlag.TF32}  # as it was: only tensorrt's is taken away
    assert rtx.profiling_verbosity == ProfilingVerbosity.LAYER_NAMES_ONLY


def test_excluded_layers_run_in_half_and_no_others() -> None:
    trt = tensorrt(layers=("a", "b", "c"))
    builder = trt.Builder(None)
    network = builder.create_network(0)
    building.configure(
        trt, builder, network, request(precision="int8", fp16_layers=["c", "a", "none"]), Out()
    )
    assert [network.get_layer(index).precision for index in range(3)] == [
        DataType.HALF,
        DataType.FLOAT,
        DataType.HALF,
    ]
    weak = builder.create_network(0)
    building.configure(trt, builder, weak, request(precision="fp16", fp16_layers=["a"]), Out())
    assert weak.get_layer(0).precision == DataType.FLOAT


def test_the_compute_capability_is_set_where_one_is_asked_for() -> None:
    calls: list[Any] = []
    config = SimpleNamespace(set_compute_capability=lambda *given: calls.append(given))
    trt = SimpleNamespace(ComputeCapability=SimpleNamespace(SM120="twelve", SM86="eight"))
    building.set_capability(trt, config, request(runtime="tensorrt_rtx", compute_capability="12.0"))
    assert (calls, config.num_compute_capabilities) == ([("twelve", 0)], 1)
    building.set_capability(trt, config, request())
    assert len(calls) == 1
    with refused("toolchain", "this tensorrt_rtx knows no compute capability 9.0"):
        building.set_capability(
            trt, config, request(runtime="tensorrt_rtx", compute_capability="9.0")
        )


def test_the_real_builder_of_tensorrt_rtx_takes_the_configuration(out: Out, tmp_path: Path) -> None:
    """Flags, profile and capability, read back from the real bindings."""
    import tensorrt_rtx as trt

    from tests.test_toolchain import graph

    asked = request(
        runtime="tensorrt_rtx",
        onnx=str(graph(tmp_path / "g.onnx", batch="n")),
        compute_capability="8.9",
        refittable=True,
        name="mine",
        sparsity=True,
        version_compatible=False,
        workspace_mib=5,
        optimization_level=1,
        tactic_sources=["JIT_CONVOLUTIONS"],
        profiles=[{"x": {"min": [1, 3, 16, 16], "opt": [2, 3, 16, 16], "max": [4, 3, 16, 16]}}],
    )
    logger = base.make_logger(trt, out)
    builder = building.make_builder(trt, logger)
    network, parser = building.parse(trt, builder, logger, asked)
    config = building.configure(trt, builder, network, asked, out)
    assert network.name == "mine"
    flags = {flag for flag in trt.BuilderFlag.__members__.values() if config.get_flag(flag)}
    assert flags == {trt.BuilderFlag.TF32, trt.BuilderFlag.SPARSE_WEIGHTS, trt.BuilderFlag.REFIT}
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 5 << 20
    assert (
        config.builder_optimization_level,
        config.num_compute_capabilities,
        config.num_optimization_profiles,
    ) == (1, 1, 1)
    assert config.get_compute_capability(0) == trt.ComputeCapability.SM89
    assert config.get_tactic_sources() == 1 << int(trt.TacticSource.JIT_CONVOLUTIONS)
    del parser


PROFILE = {"min": [1, 3, 8, 8], "opt": [4, 3, 8, 8], "max": [8, 3, 8, 8]}


def test_profiles_in_their_order() -> None:
    other = {"min": [2], "opt": [3], "max": [4]}
    found = configured(profiles=[{"x": PROFILE, "y": other}, {"x": other}])
    assert [profile._shapes for profile in found._profiles] == [
        {"x": ([1, 3, 8, 8], [4, 3, 8, 8], [8, 3, 8, 8]), "y": ([2], [3], [4])},
        {"x": ([2], [3], [4])},
    ]
    with refused("profile", "the shape is refused"):
        configured(profiles=[{"refused": PROFILE}])
    with refused("profile", "incompatible arguments"):
        configured(profiles=[{"x": {**PROFILE, "min": None}}])
    with refused("profile", f"TensorRT refused the optimization profile {{'bad': {PROFILE}}}"):
        configured(profiles=[{"bad": PROFILE}])


def test_int8_takes_its_ranges_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"TRT-101601-EntropyCalibration2\nx: 3c010204\n")
    found = configured(precision="int8", cache=str(tmp_path / "c"))
    assert (
        found.int8_calibrator.read_calibration_cache()
        == b"TRT-101601-EntropyCalibration2\nx: 3c010204\n"
    )
    assert configured(precision="fp16", cache=str(tmp_path / "c")).int8_calibrator is None
    assert configured(precision="int8").int8_calibrator is None


@pytest.mark.parametrize(
    ("profiles", "batch"), [([], 4), ([{"x": {**PROFILE, "opt": [6, 3, 8, 8]}}, {"x": PROFILE}], 6)]
)
def test_int8_of_its_own_calibration(
    monkeypatch: pytest.MonkeyPatch, profiles: Any, batch: int
) -> None:
    """In batches of the network's own size, or of the first profile's optimum."""
    asked: list[Any] = []
    monkeypatch.setattr(calibrating, "native", lambda trt, *given: asked.append(given) or "native")
    found = configured(precision="int8", cache="cache", native_images="i.npy", profiles=profiles)
    assert (found.int8_calibrator, asked) == ("native", [("i.npy", batch, "cache")])


def test_dla_runs_what_it_can() -> None:
    trt = tensorrt(layers=("one", "gpu two", "three", "gpu four"))
    builder = trt.Builder(None)
    network, config = builder.create_network(0), builder.create_builder_config()
    assert building.use_dla(trt, builder, network, config, None) == []
    assert (config._flags, config.default_device_type) == ({BuilderFlag.TF32}, DeviceType.GPU)
    assert building.use_dla(trt, builder, network, config, 0) == ["gpu two", "gpu four"]
    assert config._flags == {BuilderFlag.TF32, BuilderFlag.GPU_FALLBACK}
    assert (config.default_device_type, config.DLA_core) == (DeviceType.DLA, 0)
    building.use_dla(trt, builder, network, config, 1)
    assert config.DLA_core == 1
    for core in (2, 3):
        with refused("parameter", f"dla_core: {core}: this GPU has 2 DLA cores"):
            building.use_dla(trt, builder, network, config, core)
