"""What a target asks for that its TensorRT cannot do: said before anything is built."""

from __future__ import annotations

from collections.abc import Iterator

from enginery.project.params import Target
from enginery.toolchain.requests import ToolchainInfo

OLDEST = (8, 5)
# An option of a target: the feature it needs, and what to do without.
_NEEDS = {
    "optimization_level": ("optimization level", "leave it out, or use TensorRT 8.6 or later"),
    "strongly_typed": ("strong typing", "leave it out, or use TensorRT 10"),
    "sparsity": ("sparsity", "leave it out"),
    "version_compatible": ("version compatible", "leave it out, or use TensorRT 8.6 or later"),
    "hardware_compatible": ("hardware compatible", "leave it out, or use TensorRT 8.6 or later"),
    "refittable": ("refit", "leave it out"),
    "dla_core": ("DLA", "leave it out, or use TensorRT 10"),
}


def mistakes(name: str, target: Target, info: ToolchainInfo) -> Iterator[str]:
    """What a target asks of a toolchain in vain: the key, the feature, the cure."""
    what = f"{info.runtime} {info.version}"
    if info.runtime != "tensorrt":
        return
    if tuple(map(int, info.version.split(".")[:2])) < OLDEST:
        yield f"targets.{name}: {what} is too old; 8.5 to 11 are supported"
    for key in target.chosen(*_NEEDS):
        feature, cure = _NEEDS[key]
        if feature not in info.features:
            yield f"targets.{name}.{key}: {what} has no {feature}: {cure}"
    if target.calibration == "native" and "calibrators" not in info.features:
        yield f"targets.{name}.calibration: 'native': {what} has no calibrators: use `portable`, whose ranges become Q/DQ nodes"
