"""What records an engine in place of TensorRT: loading, contexts, inspection and refitting."""

from __future__ import annotations

from typing import Any

from tests.recorder.building import Bound
from tests.recorder.flags import DataType, LayerInformationFormat, TensorIOMode


class EngineInspector(Bound):
    execution_context: Any = None

    def __init__(self, text: str) -> None:
        self._text = text

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert form == LayerInformationFormat.JSON
        return self._text


class ICudaEngine(Bound):
    """Two profiles of `x`, (1..2, 3, 4, 4) and exactly (4, 3, 4, 4); outputs y = 2x and z, the
    first channel of x + 1.
    """

    num_io_tensors = 3
    num_optimization_profiles = 2
    device_memory_size_v2 = 5 << 20

    def __init__(self, data: bytes = b"plan") -> None:
        self._data = data
        self._contexts: list[IExecutionContext] = []
        self._room = True
        self._inspection = '{"Layers": []}'

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


class Runtime(Bound):
    engine_host_code_allowed = False
    DLA_core = -1

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None: ...
