"""Enginery: trained models into TensorRT engines that a team can trust."""

__version__ = "0.1.0"
