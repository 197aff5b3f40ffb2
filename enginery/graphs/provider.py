"""Which of ONNX Runtime's execution providers runs a graph here."""

from __future__ import annotations

from enginery.gpu.inventory import gpus

CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def fastest_provider() -> str:
    """What runs a graph in memory here: a GPU, where there is one and this ONNX Runtime knows it.

    Every recipe asks, so without a GPU ONNX Runtime is not loaded for it.
    """
    if not gpus():
        return CPU
    import onnxruntime

    return _CUDA if _CUDA in onnxruntime.get_available_providers() else CPU
