"""ONNX Runtime sessions on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnxruntime

from enginery.errors import ModelError
from enginery.graphs.external import relative
from enginery.graphs.provider import CPU, fastest_provider

_CORES = len(os.sched_getaffinity(0))
WORKERS = min(_CORES, 4)  # runs of a session side by side; each holds its own activations
_NO_LIMIT = 0  # as many threads as there are cores


def threads_beside(workers: int) -> int:
    """How many threads a run may have where so many go on at once."""
    return max(1, _CORES // workers)


def open_session(path: Path, threads: int = _NO_LIMIT) -> onnxruntime.InferenceSession:
    """A quiet CPU session of a graph.

    Raises:
        ModelError: ONNX Runtime does not take the graph.
    """
    return _open(str(path), str(path), threads, CPU)


def open_model(
    model: onnx.ModelProto, what: str, threads: int = _NO_LIMIT
) -> onnxruntime.InferenceSession:
    """A quiet session of a graph in memory, run by the fastest provider; errors call it `what`.

    Raises:
        ModelError: ONNX Runtime does not take the graph, or its provider does not start.
    """
    model, folder = relative(model)
    return _open(model.SerializeToString(), what, threads, fastest_provider(), folder)


def _open(
    source: str | bytes,
    what: str,
    threads: int,
    provider: str,
    data: Path | None = None,
) -> onnxruntime.InferenceSession:
    """`data` is the folder of the data files of a graph in memory."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Its own INT8 kernels saturate on CPUs without VNNI, which no TensorRT engine does: Q/DQ pairs
    # are computed as they stand.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if data:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(data)
        )
    try:
        session = onnxruntime.InferenceSession(
            source, options, providers=list(dict.fromkeys([provider, CPU]))
        )
    except Exception as error:  # its own exceptions share no base
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"ONNX Runtime does not take {what}: {reason}",
            "Export the model again, or replace what it names",
        ) from None
    if (
        session.get_providers()[0] != provider
    ):  # it goes on with the CPU, and what it makes would pass for the GPU's
        cure = (
            "Install the CUDA libraries that it needs, or onnxruntime in place of onnxruntime-gpu"
        )
        raise ModelError(f"ONNX Runtime's {provider} does not start on this machine", cure)
    return session
