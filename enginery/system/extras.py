"""Which extra of the package brings a library that a command needs and that is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from enginery.errors import MissingExtraError

# By extra; the first of each tells whether it is installed.
MODULES: Mapping[str, tuple[str, ...]] = {
    "build": (
        "onnx",
        "cv2",
        "google",
        "matplotlib",
        "onnxconverter_common",
        "onnxruntime",
        "onnxsim",
        "PIL",
        "torch",
        "torchvision",
        "ultralytics",
    ),
    "scheduler": (
        "prefect",
        "fastapi",
        "httpx",
        "sqlalchemy",
        "starlette",
        "uvicorn",
    ),
    "serve": ("dvc", "configobj", "ruamel", "voluptuous"),
    "gpu": ("pycuda", "tensorrt"),
    "rtx": ("tensorrt_rtx",),
}
_EXTRAS = {module: extra for extra, modules in MODULES.items() for module in modules}


def require(extra: str) -> None:
    """Refuse a command at once that would miss an extra later on.

    Raises:
        MissingExtraError: it is not installed.
    """
    module = MODULES[extra][0]
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
