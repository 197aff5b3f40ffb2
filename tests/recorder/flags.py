"""Flags and other numbers of TensorRT's bindings, with the bindings' own names and values."""

from __future__ import annotations

from enum import IntEnum


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
