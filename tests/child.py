"""The child program's modules, loaded into the tests' own process, and recorders in place of
TensorRT, pycuda and the driver.

The recorders have nothing that the real bindings of TensorRT 10.16 lack (`test_recorder.py` holds
them to it), and, as those do, take no attribute that they do not declare.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

PACKAGE = "enginery.toolchain.child"
MODULES = (
    "base",
    "probing",
    "timing",
    "calibrating",
    "devices",
    "engines",
    "building",
    "inspecting",
    "refitting",
    "running",
)


@contextmanager
def _pycuda() -> Iterator[None]:
    """Something to import as pycuda's driver, where there is none."""
    driver = ModuleType("pycuda.driver")
    driver.Error = RuntimeError  # type: ignore[attr-defined]
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("pycuda", "pycuda.driver")}
    sys.modules.update({"pycuda": package, "pycuda.driver": driver})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def load_child(name: str) -> Any:
    """A module of the child program; it knows the others by their plain names, as in its own
    process.
    """
    with _pycuda():
        for each in MODULES:
            if each not in sys.modules:
                sys.modules[each] = importlib.import_module(f"{PACKAGE}.{each}")
        return importlib.import_module(f"{PACKAGE}.{name}")


class Out:
    """The event stream, as a list."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, event: str, **fields: Any) -> None:
        self.sent.append({"event": event, **fields})


class Bound:
    """Takes only attributes that its class declares, as the bindings do."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(name)
        object.__setattr__(self, name, value)


class BuilderFlag(IntEnum):
    FP16 = 0
    INT8 = 1
    GPU_FALLBACK = 3
    REFIT = 4
    TF32 = 6
    SPARSE_WEIGHTS = 7
    OBEY_PRECISION_CONSTRAINTS = 9
    PREFER_PRECISION_CONSTRAINTS = 10
    VERSION_COMPATIBLE = 13
    EDITABLE_TIMING_CACHE = 27


class StrongBuilderFlag(IntEnum):
    """Those of TensorRT 11, which is strongly typed."""

    GPU_FALLBACK = 3
    REFIT = 4
    TF32 = 6
    SPARSE_WEIGHTS = 7
    VERSION_COMPATIBLE = 13


class NetworkDefinitionCreationFlag(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class StrongNetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2


class ProfilingVerbosity(IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class MemoryPoolType(IntEnum):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1


class TacticSource(IntEnum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class HardwareCompatibilityLevel(IntEnum):
    NONE = 0
    AMPERE_PLUS = 1


class DeviceType(IntEnum):
    GPU = 0
    DLA = 1


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class LayerInformationFormat(IntEnum):
    ONELINE = 0
    JSON = 1


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


class EngineInspector(Bound):
    execution_context: Any = None

    def __init__(self, text: str) -> None:
        self._text = text

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert form == LayerInformationFormat.JSON
        assert self.execution_context is not None
        return self._text


class ICudaEngine(Bound):
    """Two profiles of `x`, (1..2, 3, 4, 4) and exactly (4, 3, 4, 4); outputs y = 2x and z, the
    first channel of x + 1.
    """

    num_io_tensors = 3
    device_memory_size_v2 = 5 << 20

    def __init__(self, data: bytes = b"plan") -> None:
        self._data = data
        self._contexts: list[IExecutionContext] = []
        self._room = True
        self._inspection = "{}"

    def get_tensor_name(self, index: int) -> str:
        return ("y", "x", "z")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.HALF if name == "z" else DataType.FLOAT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert name == "x"
        low, high = ((1, 2), (4, 4))[profile]
        return [[low, 3, 4, 4], [low, 3, 4, 4], [high, 3, 4, 4]]

    def create_execution_context(self) -> IExecutionContext | None:
        if not self._room:
            return None
        self._contexts.append(IExecutionContext())
        return self._contexts[-1]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._inspection)

    def serialize(self) -> bytes:
        return self._data


class IExecutionContext(Bound):
    profiler: Any = None

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._profile: tuple[int, int] | None = None
        self._runs = 0
        self._refuses: Any = None  # of runs: those that fail
        self._takes = True
        self._memory: dict[int, Any] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = (profile, stream)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "x"
        self._shape = tuple(shape)
        return self._takes

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape if name != "z" else (self._shape[0], *self._shape[2:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._runs += 1
        if self._refuses and self._refuses(self._runs):
            return False
        if self._memory:
            given = self._memory[self._addresses["x"]].values
            self._memory[self._addresses["y"]].values[...] = given * 2
            self._memory[self._addresses["z"]].values[...] = given[:, 0] + 1
        if self.profiler is not None:
            self.profiler.report_layer_time("conv", 2.0)
            self.profiler.report_layer_time("relu", 0.5)
            self.profiler.report_layer_time("conv", 1.0)
        return True


class Refitter(Bound):
    """Of an engine with the weights `a` and `b` and, with INT8, the ranges of `t` and `u`."""

    def __init__(self, engine: ICudaEngine, logger: Any) -> None:
        self._engine, self._logger = engine, logger
        self._set: dict[str, Any] = {}
        self._ranges: dict[str, tuple[float, float]] = {}

    def get_all_weights(self) -> list[str]:
        return ["b", "a"]

    def set_named_weights(self, name: str, weights: Any) -> bool:
        self._set[name] = weights
        return name in ("a", "b")

    def get_missing_weights(self) -> list[str]:
        return [name for name in ("a", "b") if name not in self._set]

    def get_tensors_with_dynamic_range(self) -> list[str]:
        return ["t", "u"]

    def set_dynamic_range(self, tensor: str, limits: tuple[float, float]) -> bool:
        self._ranges[tensor] = limits
        return True

    def refit_cuda_engine(self) -> bool:
        self._engine._data = b"refitted"
        return True


class Weights:
    """Only holds the memory, as the bindings' own does."""

    def __init__(self, values: Any) -> None:
        self.values = values


class Runtime(Bound):
    engine_host_code_allowed = False
    DLA_core = -1

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None: ...


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


def tensorrt(
    *,
    layers: tuple[str, ...] = ("a", "b", "c"),
    outputs: int = 1,
    shape: tuple[int, ...] = (4, 3, 8, 8),
    plan: bytes | None = b"plan",
    parsed: bool = True,
    errors: tuple[Any, ...] = (),
    loads: bool = True,
    strong: bool = False,
    without: tuple[str, ...] = (),
) -> Any:
    """A module as the child program imports it.

    What was made with it is in its `made`: by class name, in order.
    """
    made: dict[str, list[Any]] = {}

    def keep(found: Any) -> Any:
        made.setdefault(
            type(found).__mro__[1].__name__
            if type(found).__name__ == "Made"
            else type(found).__name__,
            [],
        ).append(found)
        return found

    class MadeBuilder(Builder):
        def __init__(self, logger: Any) -> None:
            super().__init__(logger)
            made.setdefault("Builder", []).append(self)

        def create_network(self, flags: int) -> INetworkDefinition:
            return keep(INetworkDefinition(flags, layers, outputs, shape))

        def create_builder_config(self) -> IBuilderConfig:
            return keep(IBuilderConfig())

        def build_serialized_network(
            self, network: INetworkDefinition, config: IBuilderConfig
        ) -> Any:
            made["built"] = [network, config]
            return plan

    class MadeParser(OnnxParser):
        def __init__(self, network: INetworkDefinition, logger: Any) -> None:
            super().__init__(network, logger)
            self.num_errors = len(errors)
            made.setdefault("OnnxParser", []).append(self)

        def parse(self, data: bytes) -> bool:
            made["parsed"] = [data]
            return parsed

        def parse_from_file(self, path: str) -> bool:
            return self.parse(Path(path).read_bytes())

        def get_error(self, index: int) -> Any:
            return errors[index]

    class MadeRuntime(Runtime):
        def __init__(self, logger: Any) -> None:
            super().__init__(logger)
            made.setdefault("Runtime", []).append(self)

        def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None:
            made["loaded"] = [data]
            return keep(ICudaEngine(data)) if loads else None

    class MadeRefitter(Refitter):
        def __init__(self, engine: ICudaEngine, logger: Any) -> None:
            super().__init__(engine, logger)
            made.setdefault("Refitter", []).append(self)

    found: dict[str, Any] = {
        name: globals()[name]
        for name in (
            "DataType",
            "ProfilingVerbosity",
            "MemoryPoolType",
            "TacticSource",
            "HardwareCompatibilityLevel",
            "DeviceType",
            "TensorIOMode",
            "LayerInformationFormat",
            "ILogger",
            "IProgressMonitor",
            "IProfiler",
            "IInt8EntropyCalibrator2",
            "Weights",
            "IBuilderConfig",
        )
    }
    found |= {
        "BuilderFlag": StrongBuilderFlag if strong else BuilderFlag,
        "NetworkDefinitionCreationFlag": StrongNetworkDefinitionCreationFlag
        if strong
        else NetworkDefinitionCreationFlag,
        "Builder": MadeBuilder,
        "OnnxParser": MadeParser,
        "Runtime": MadeRuntime,
        "Refitter": MadeRefitter,
        "nptype": lambda kind: {DataType.FLOAT: np.float32, DataType.HALF: np.float16}[kind],
        "__version__": "10.16.1",
        "made": made,
    }
    return SimpleNamespace(**{name: value for name, value in found.items() if name not in without})


# pycuda


class Memory:
    """Bytes on the GPU, at an address of their own."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.cuda, self.size, self.freed = cuda, size, False
        self.address = 1000 + len(cuda.memory)
        self.values: Any = None

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        assert not self.freed
        self.freed = True


class Event:
    """Each event comes a millisecond (or what the test says) after the one before."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.at: float | None = None
        self.waited = False

    def record(self, stream: Any) -> None:
        assert stream in self.cuda.streams
        self.at = self.cuda.clock()

    def synchronize(self) -> None:
        self.waited = True

    def time_since(self, other: Event) -> float:
        assert self.waited
        assert self.at is not None
        assert other.at is not None
        return self.at - other.at


class Stream:
    """A stream with its handle."""

    def __init__(self, number: int) -> None:
        self.handle = number
        self.waits = 0

    def synchronize(self) -> None:
        self.waits += 1


class Cuda:
    """pycuda.driver as the child program uses it."""

    class Error(Exception):
        """What pycuda raises."""

    def __init__(self, devices: int = 1) -> None:
        self.memory: list[Memory] = []
        self.streams: list[Stream] = []
        self.pinned: list[Any] = []
        self.calls: list[Any] = []
        self.now = 0.0
        outer = self

        class Device:
            """The GPU of this index."""

            def __init__(self, index: int) -> None:
                assert index < devices
                self.index = index

            @staticmethod
            def count() -> int:
                return devices

            def name(self) -> str:
                return f"Card {self.index}"

            def compute_capability(self) -> tuple[int, int]:
                return (8, 6 + self.index)

            def total_memory(self) -> int:
                return (24564 << 20) + 5

            def retain_primary_context(self) -> Any:
                outer.calls.append(("retain", self.index))
                return SimpleNamespace(
                    push=lambda: outer.calls.append("push"),
                    detach=lambda: outer.calls.append("detach"),
                )

        self.Device = Device
        self.Context = SimpleNamespace(pop=lambda: outer.calls.append("pop"))

    def init(self) -> None:
        self.calls.append("init")

    def get_driver_version(self) -> int:
        return 12080

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def mem_alloc(self, size: int) -> Memory:
        self.memory.append(Memory(self, size))
        return self.memory[-1]

    def pagelocked_zeros(self, shape: tuple[int, ...], kind: Any) -> Any:
        self.pinned.append(np.zeros(shape, kind))
        return self.pinned[-1]

    def Stream(self) -> Stream:  # noqa: N802
        self.streams.append(Stream(77 + len(self.streams)))
        return self.streams[-1]

    def Event(self) -> Event:  # noqa: N802
        return Event(self)

    def memcpy_htod(self, memory: Memory, values: Any) -> None:
        assert values.flags.c_contiguous
        memory.values = np.array(values)

    def memcpy_htod_async(self, memory: Memory, values: Any, stream: Stream) -> None:
        assert stream in self.streams
        memory.values = np.array(values)
        self.calls.append(("to the GPU", int(memory)))

    def memcpy_dtoh_async(self, values: Any, memory: Memory, stream: Stream) -> None:
        assert stream in self.streams
        values[...] = memory.values
        self.calls.append(("from the GPU", int(memory)))
