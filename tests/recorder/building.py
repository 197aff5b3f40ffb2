"""What records a build in place of TensorRT: networks, configurations, caches, parsers and builders."""

from __future__ import annotations

from typing import Any

from tests.recorder.flags import (
    BuilderFlag,
    DataType,
    DeviceType,
    HardwareCompatibilityLevel,
    MemoryPoolType,
    ProfilingVerbosity,
)


class Bound:
    """Takes only attributes that its class declares, as the bindings do."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(name)
        object.__setattr__(self, name, value)


class ILogger(Bound):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # a class of the child's own is derived from it


class ILayer(Bound):
    name = ""
    precision = DataType.FLOAT

    def __init__(self, name: str) -> None:
        self.name = name


class ITensor(Bound):
    shape: tuple[int, ...] = ()

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


class INetworkDefinition(Bound):
    name = ""
    num_layers = num_outputs = 0

    def __init__(
        self, flags: int, layers: tuple[str, ...], outputs: int, shape: tuple[int, ...]
    ) -> None:
        self._flags, self._shape = flags, shape
        self._layers = [ILayer(name) for name in layers]
        self.num_layers, self.num_outputs = len(layers), outputs

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def get_input(self, index: int) -> ITensor:
        assert index == 0
        return ITensor(self._shape)


class IOptimizationProfile(Bound):
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, low: Any, opt: Any, high: Any) -> None:
        if name == "refused":
            raise ValueError("the shape is refused")
        if low is None:
            raise TypeError("incompatible arguments")
        self._shapes[name] = (low, opt, high)


class IHostMemory(Bound):
    """What a builder or a cache gives: bytes behind a buffer."""

    def __init__(self, data: bytes) -> None:
        self._data = data


class ITimingCache(Bound):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def combine(self, other: ITimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if b"other" in other._data:
            return False
        self._data += b"+" + other._data
        return True

    def serialize(self) -> bytes:
        return self._data


class IBuilderConfig(Bound):
    int8_calibrator: Any = None
    builder_optimization_level = 3
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
    hardware_compatibility_level = HardwareCompatibilityLevel.NONE
    default_device_type = DeviceType.GPU
    DLA_core = -1
    progress_monitor: Any = None

    def __init__(self) -> None:
        self._flags = {BuilderFlag.TF32}
        self._profiles: list[IOptimizationProfile] = []
        self._pools: dict[MemoryPoolType, int] = {}
        self._tactics: int | None = None
        self._cache: ITimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self._pools[pool] = size

    def set_tactic_sources(self, sources: int) -> bool:
        self._tactics = sources
        return True

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if "bad" in profile._shapes:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def can_run_on_DLA(self, layer: ILayer) -> bool:  # noqa: N802
        return not layer.name.startswith("gpu")

    def create_timing_cache(self, data: bytes) -> ITimingCache:
        return ITimingCache(data)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if b"other" in cache._data:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class IProgressMonitor(Bound):
    def __init__(self) -> None:
        self._made = True

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None: ...

    def phase_finish(self, phase_name: str) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool: ...

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


class IProfiler(IProgressMonitor):
    def report_layer_time(self, layer_name: str, ms: float) -> None: ...


class IInt8EntropyCalibrator2(Bound):
    def __init__(self) -> None:
        self._made = True

    def get_batch_size(self) -> int: ...

    def get_batch(self, names: Any) -> Any: ...

    def read_calibration_cache(self) -> Any: ...

    def write_calibration_cache(self, cache: Any) -> None: ...

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


class ParserError(Bound):
    def __init__(self, description: str, name: str, operator: str) -> None:
        self._said = description, name, operator

    def desc(self) -> str:
        return self._said[0]

    def node_name(self) -> str:
        return self._said[1]

    def node_operator(self) -> str:
        return self._said[2]


class OldParserError(Bound):
    """TensorRT 8's, which does not name nodes."""

    def __init__(self, description: str) -> None:
        self._said = description

    def desc(self) -> str:
        return self._said


class Weights:
    """Only holds the memory, as the bindings' own does."""

    def __init__(self, values: Any) -> None:
        self.values = values


class OnnxParser(Bound):
    num_errors = 0

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self._logger = network, logger

    def parse(self, data: bytes) -> bool: ...

    def parse_from_file(self, path: str) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class Builder(Bound):
    num_DLA_cores = 2  # noqa: N815

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> Any: ...
