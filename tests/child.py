"""The child program's modules, loaded into the tests' own process, and TensorRT as they import it:
recorders of tests/recorder in its place.

The recorders have nothing that the real bindings of TensorRT 10.16 lack (`test_recorder.py` holds
them to it), and, as those do, take no attribute that they do not declare.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.recorder.building import (
    Builder,
    IBuilderConfig,
    IInt8EntropyCalibrator2,
    ILogger,
    INetworkDefinition,
    IProfiler,
    IProgressMonitor,
    OnnxParser,
    Weights,
)
from tests.recorder.engines import ICudaEngine, Refitter, Runtime
from tests.recorder.flags import (
    BuilderFlag,
    DataType,
    DeviceType,
    HardwareCompatibilityLevel,
    LayerInformationFormat,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    StrongBuilderFlag,
    StrongNetworkDefinitionCreationFlag,
    TacticSource,
    TensorIOMode,
)

PACKAGE = "enginery.toolchain.child"
MODULES = (
    "base",
    "probing",
    "timing",
    "calibrating",
    "devices",
    "engines",
    "precisions",
    "progress",
    "building",
    "inspecting",
    "refitting",
    "running",
    "serving",
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
        kind.__name__: kind
        for kind in (
            DataType,
            ProfilingVerbosity,
            MemoryPoolType,
            TacticSource,
            HardwareCompatibilityLevel,
            DeviceType,
            TensorIOMode,
            LayerInformationFormat,
            ILogger,
            IProgressMonitor,
            IProfiler,
            IInt8EntropyCalibrator2,
            Weights,
            IBuilderConfig,
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
