"""ONNX Runtime sessions on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnxruntime

from enginery.errors import ModelError

_CORES = len(os.sched_getaffinity(0))
WORKERS = min(_CORES, 4)  # runs of a session side by side; each holds its own activations
_NO_LIMIT = 0  # as many threads as there are cores
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def threads_beside(workers: int) -> int:
    """How many threads a run may have where so many go on at once."""
    return max(1, _CORES // workers)


def open_session(path: Path, threads: int = _NO_LIMIT) -> onnxruntime.InferenceSession:
    """A quiet CPU session of a graph.

    Raises:
        ModelError: ONNX Runtime does not take the graph.
    """
    return _open(str(path), str(path), threads, ["CPUExecutionProvider"])


def open_model(model: onnx.ModelProto, what: str, threads: int = _NO_LIMIT) -> onnxruntime.InferenceSession:
    """A quiet session of a graph in memory, on a GPU if this ONNX Runtime knows one; errors call it `what`.

    Raises:
        ModelError: ONNX Runtime does not take the graph.
    """
    available = onnxruntime.get_available_providers()
    return _open(model.SerializeToString(), what, threads, [provider for provider in _PROVIDERS if provider in available])


def _open(source: str | bytes, what: str, threads: int, providers: list[str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Its own INT8 kernels saturate on CPUs without VNNI, which no TensorRT engine does: Q/DQ pairs are computed as they stand.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # its own exceptions share no base
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"ONNX Runtime does not take {what}: {reason}", "Export the model again, or replace what it names") from None
