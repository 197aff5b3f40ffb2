"""Enginery: trained models into TensorRT engines that a team can trust."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enginery.actions.load import load
    from enginery.actions.pull import pull

__all__ = ["__version__", "load", "pull"]
__version__ = "0.1.0"

# Before any library reads them: nothing is sent anywhere that the user did not name.
os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect and others
os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # ONNX Runtime reports each session to Microsoft
os.environ.setdefault(
    "YOLO_OFFLINE", "true"
)  # Ultralytics reports exports, asks for its newest version
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # of servers started here


def __getattr__(name: str) -> Any:
    """The Python API; imported when it is asked for, since commands must start at once."""
    if name in ("load", "pull"):
        from importlib import import_module

        return getattr(import_module(f"enginery.actions.{name}"), name)
    raise AttributeError(f"module 'enginery' has no attribute {name!r}")
