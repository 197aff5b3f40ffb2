"""Enginery: trained models into TensorRT engines that a team can trust."""

import os

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
