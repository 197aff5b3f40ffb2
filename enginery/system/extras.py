"""Which extra of the package brings a library that a command needs and that is not installed."""

from __future__ import annotations

from collections.abc import Mapping

from enginery.errors import MissingExtraError

_MODULES: Mapping[str, tuple[str, ...]] = {
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
        "configobj",
        "dvc",
        "fastapi",
        "httpx",
        "prefect",
        "ruamel",
        "sqlalchemy",
        "starlette",
        "uvicorn",
        "voluptuous",
    ),
    "gpu": ("pycuda", "tensorrt"),
    "rtx": ("tensorrt_rtx",),
}
_EXTRAS = {module: extra for extra, modules in _MODULES.items() for module in modules}


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
