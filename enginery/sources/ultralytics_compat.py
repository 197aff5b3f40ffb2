"""Ultralytics and torchvision: quiet, never installing anything, and importable beside any build of
torch.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")
os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"  # only `loading` lets a checkpoint run code

# torchvision's import registers shapes for these two, whether or not anybody calls them.
_OPERATORS = ("nms", "qnms")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Ultralytics says nothing inside, and its logger nothing afterwards."""
    logging.getLogger("ultralytics").setLevel(logging.CRITICAL)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def loading(trusted: bool) -> Iterator[None]:
    """Inside, Ultralytics rebuilds only its own and torch's classes from a checkpoint; a trusted
    one runs any code it names.
    """
    from ultralytics.nn import tasks

    before, tasks.SAFE_LOAD = (
        tasks.SAFE_LOAD,
        not trusted,
    )  # it read the variable once, at its import
    try:
        yield
    finally:
        tasks.SAFE_LOAD = before


@cache
def import_torchvision() -> Any:
    """The module torchvision, which Ultralytics' validators and classification transforms import.

    Its wheel expects operators that it compiled for another torch: beside the CPU build of torch
    they do not load, and the import ends in `operator torchvision::nms does not exist`. Of them all
    only NMS is ever called here: that one is then Ultralytics' own.
    """
    try:
        import torchvision
    except RuntimeError:
        return _import_with_own_nms()
    return torchvision


def _import_with_own_nms() -> Any:
    import torch
    from ultralytics.utils.nms import TorchNMS

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind
    for name in _OPERATORS:
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    import torchvision

    torchvision.ops.nms = TorchNMS.nms  # its own first asks for the compiled operators
    return torchvision
