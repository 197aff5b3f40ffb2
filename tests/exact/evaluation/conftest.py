"""Imports Ultralytics before the first test does."""

from __future__ import annotations

import importlib

from enginery.sources.ultralytics_compat import import_torchvision

import_torchvision()  # once, and not by whichever test comes first
importlib.import_module("ultralytics.models.yolo")
importlib.import_module("ultralytics.data.augment")
importlib.import_module("ultralytics.nn.autobackend")
