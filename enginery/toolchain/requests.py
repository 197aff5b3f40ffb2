"""What a toolchain's child program is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginery.toolchain.precisions import BuiltLayer

WEIGHT_PREFIX = "weights/"  # NumPy takes some names of arrays for its own arguments
Shapes = Mapping[str, Mapping[str, list[int]]]


@dataclass(frozen=True)
class ToolchainInfo:
    """What a toolchain is, as its own interpreter told; `gpus` are those that its pycuda sees,
    `no_gpu` says why there are none.

    `blind`: it could see none, because its NumPy or pycuda is missing or broken.
    """

    runtime: str
    version: str
    python: str
    platform: str
    features: tuple[str, ...]
    compute_capabilities: tuple[str, ...]
    gpus: tuple[Mapping[str, Any], ...] = ()
    no_gpu: str = ""
    blind: bool = False


@dataclass(frozen=True)
class BuildRequest:
    """One plan to build. Each of `profiles` maps an input to its shapes at min, opt and max; none
    for static shapes.

    The fields from `strongly_typed` on are for `tensorrt`. `timing_caches` are merged and
    `timing_cache` is written. A weakly typed build takes `precision`; for INT8 `cache` holds the
    ranges (or, with `native_images`, a float32 .npy (n, 3, height, width), is where TensorRT's own
    calibration writes them), and `fp16_layers` stay in fp16. The input `channels_last` lies in
    memory as (batch, height, width, channels). `plugins`: the graph needs NVIDIA's.
    """

    runtime: str
    onnx: Path
    plan: Path
    name: str
    gpu: str | None = None
    compute_capability: str | None = None
    profiles: tuple[Shapes, ...] = ()
    workspace_mib: int | None = None
    optimization_level: int | None = None
    tactic_sources: tuple[str, ...] | None = None
    strongly_typed: bool = False
    tf32: bool = False
    sparsity: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: bool = False
    dla_core: int | None = None
    timing_caches: tuple[Path, ...] = ()
    timing_cache: Path | None = None
    precision: str = "fp32"
    cache: Path | None = None
    fp16_layers: tuple[str, ...] = ()
    native_images: Path | None = None
    channels_last: str | None = None
    plugins: bool = False


@dataclass(frozen=True)
class BuildResult:
    """A plan that was built: digests, bytes, seconds, MiB, tactics skipped for want of memory,
    layers that DLA left to the GPU, its layers where a plan can be loaded, and TensorRT's warnings.
    """

    plan_sha256: str
    plan_bytes: int
    weights_sha256: str | None
    seconds: float
    peak_memory_mib: float
    runtime_version: str
    skipped_tactics: int
    dla_fallback: tuple[str, ...]
    refittable_weights: tuple[str, ...]
    messages: tuple[str, ...]
    layers: tuple[BuiltLayer, ...] = ()


@dataclass(frozen=True)
class PlanRequest:
    """A plan to load on a GPU (an index or UUID); `host_code` is for version-compatible plans,
    which bring code of their own; `plugins`: it needs NVIDIA's.
    """

    runtime: str
    plan: Path
    plan_sha256: str
    gpu: str | None = None
    host_code: bool = False
    dla_core: int | None = None
    plugins: bool = False


@dataclass(frozen=True)
class RefitRequest(PlanRequest):
    """New weights (an .npz by name, each after `prefix`) and INT8 ranges (largest magnitude by
    tensor); the plan goes to `out`.
    """

    weights: Path = field(kw_only=True)
    out: Path = field(kw_only=True)
    ranges: Mapping[str, float] = field(default_factory=dict)
    prefix: str = WEIGHT_PREFIX


@dataclass(frozen=True)
class RefitResult:
    """A plan whose weights were replaced: digest, bytes, seconds."""

    plan_sha256: str
    plan_bytes: int
    seconds: float
    runtime_version: str


@dataclass(frozen=True)
class PointRequest:
    """An input shape (batch, channels, height, width) in a profile, and the images, an .npy of the
    input's type, that are run at it.

    The engine's outputs go to the folder `outputs` as 0.npy, 1.npy ...
    """

    shape: tuple[int, ...]
    images: Path
    outputs: Path
    profile: int = 0
    timed: bool = True


@dataclass(frozen=True)
class MeasureRequest(PlanRequest):
    """Points to run an engine at; `runs` are timed at each (0: none), again where p90 is more than
    `noisy` times p50.
    """

    points: tuple[PointRequest, ...] = field(kw_only=True)
    runs: int = 200
    noisy: float = 1.25


@dataclass(frozen=True)
class PointResult:
    """What came of a point: the names of the outputs, in the order of their files, and the
    milliseconds of each batch with its transfers.

    `timing` has mean, min, max, p50, p90 and p99 of a batch on the GPU alone, with transfers, and
    as a CUDA graph, and images a second; None where nothing was timed.
    """

    outputs: tuple[str, ...]
    milliseconds: tuple[float, ...]
    timing: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Measurement:
    """An engine that ran: each point's result, and the name, UUID and compute capability of the GPU
    that it ran on.
    """

    points: tuple[PointResult, ...]
    gpu: Mapping[str, str]


@dataclass(frozen=True)
class InspectRequest(PlanRequest):
    """An engine to take apart, run at an input shape of its first profile."""

    shape: tuple[int, ...] = field(kw_only=True)


@dataclass(frozen=True)
class Inspection:
    """An engine taken apart: its layers, each as its TensorRT's inspector writes it, mean
    milliseconds by a layer's name, and bytes of GPU memory for activations; its inputs and outputs,
    and the median of how many runs.
    """

    layers: tuple[Mapping[str, Any] | str, ...]
    milliseconds: Mapping[str, float]
    device_memory: int
    bindings: tuple[str, ...] = ()
    medians: Mapping[str, float] = field(default_factory=dict)
    runs: int = 0
