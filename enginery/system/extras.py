"""Which extra of the package brings a library that a command needs and that is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from enginery.errors import MissingExtraError

MODULES: Mapping[str, tuple[str, ...]] = {
    "build": (
        "cv2",
        "google",
        "matplotlib",
        "onnx",
        "onnxconverter_common",
        "onnxruntime",
        "onnxsim",
        "PIL",
        "torch",
        "torchvision",
        "ultralytics",
    ),
    "scheduler": (
        "fastapi",
        "httpx",
        "prefect",
        "sqlalchemy",
        "starlette",
        "uvicorn",
    ),
    "serve": ("configobj", "dvc", "ruamel", "voluptuous"),
    "gpu": ("pycuda", "tensorrt"),
    "rtx": ("tensorrt_rtx",),
}
_EXTRAS = {module: extra for extra, modules in MODULES.items() for module in modules}


def require(extra: str) -> None:
    """Refuse a command at once that needs all of an extra, where a part of it is missing.

    Raises:
        MissingExtraError: it is.
    """
    for module in MODULES[extra]:
        if find_spec(module) is None:
            raise MissingExtraError(module, extra)


def missing(module: str) -> MissingExtraError:
    """The error for a library of ours that is not installed.

    Raises:
        KeyError: no extra has it.
    """
    package = module.partition(".")[0]
    extra = _EXTRAS[package]
    return MissingExtraError(package, extra)


def missing_extra(error: ImportError) -> MissingExtraError | None:
    """What to say of an import that failed, if an extra brings what it asked for."""
    package = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package not in _EXTRAS:
        return None
    return missing(package)
