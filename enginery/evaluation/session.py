"""ONNX Runtime sessions on the CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from enginery.errors import ModelError


def open_session(onnx: Path) -> onnxruntime.InferenceSession:
    """A quiet CPU session of a graph.

    Raises:
        ModelError: ONNX Runtime does not take the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions share no base
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"ONNX Runtime does not take {onnx}: {reason}", "Export the model again, or replace what it names") from None
