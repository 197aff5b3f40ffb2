"""TensorRT's calibration cache: a line `TRT-<version>-EntropyCalibration2`, then `tensor: scale`
lines.

A scale is threshold / 127 as a big-endian float32 in hex without leading zeros. TensorRT skips a
cache that is headed for another version, so the header is written for the version that will read
it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginery.errors import DataError
from enginery.project.inputs import check_plain
from enginery.system.files import atomic_write

_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
SUFFIX = ".cache"
KIND = "EntropyCalibration2"
# the version that Enginery's own files are headed for; whoever hands one to TensorRT heads it anew
CANONICAL = 8600
STEPS = 127  # a scale times this is the threshold


@dataclass(frozen=True)
class Cache:
    """Scales by tensor; `version` is TensorRT's number (8600 is 8.6.0, 101601 is 10.16.1)."""

    version: int
    scales: Mapping[str, float]

    def headed_for(self, version: str) -> Cache:
        """The same ranges for another TensorRT version, as in 8.6.0."""
        return Cache(version_number(version), self.scales)

    def scaled(self, times: Mapping[str, int]) -> Cache:
        """The ranges of a graph in which these tensors' values are so many times larger."""
        scales = {name: scale * times.get(name, 1) for name, scale in self.scales.items()}
        return Cache(self.version, scales)

    def thresholds(self) -> dict[str, float]:
        """The magnitude that each tensor's largest level stands for."""
        return {name: scale * STEPS for name, scale in self.scales.items()}


def from_thresholds(thresholds: Mapping[str, float]) -> Cache:
    """A cache of these magnitudes, headed for the canonical version."""
    return Cache(CANONICAL, {name: threshold / STEPS for name, threshold in thresholds.items()})


def check_tensors(cache: Cache, tensors: Sequence[str], what: str) -> None:
    """Compare a cache with the tensors that a graph needs ranges of.

    Raises:
        DataError: it has none for some of them, or one that is not above zero.
    """
    missing = [name for name in tensors if name not in cache.scales]
    if missing:
        mistake = (
            f"{what} has no range for {len(missing)} of the graph's {len(tensors)} tensors, "
            f"{missing[0]} first"
        )
        raise DataError(
            mistake, "It was made for another model, or another export of it: calibrate this one"
        )
    dead = [name for name in tensors if not 0 < cache.scales[name] < float("inf")]
    if dead:
        mistake = f"{what}: the range of {dead[0]} is {cache.scales[dead[0]]:g}"
        raise DataError(mistake, "Exclude the layer that reads it, or calibrate anew")


def version_number(version: str) -> int:
    """TensorRT's own number of a version: major, minor and patch, two digits each from 10 on, one
    before.
    """
    major, minor, patch = map(int, re.findall(r"\d+", version)[:3])  # 10.0.0b6 is 10.0.0
    return (
        major * 1000 + minor * 100 + patch if major < 10 else major * 10_000 + minor * 100 + patch
    )


def read(path: Path) -> Cache:
    """Read a cache.

    Raises:
        DataError: the file is missing, no plain file, cut off or no cache, with the line.
    """
    cure = "Copy the cache again, or calibrate anew"
    check_plain(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a calibration cache: {error}", cure) from None
    lines = text.splitlines()
    header = _HEADER.fullmatch(lines[0].strip()) if lines else None
    if not header:
        raise DataError(
            f"{path}, line 1: a TensorRT calibration cache begins with TRT-<version>-{KIND}", cure
        )
    if not text.endswith("\n"):
        raise DataError(f"{path} is cut off in line {len(lines)}", cure)
    scales = dict(
        _entry(line, f"{path}, line {number}")
        for number, line in enumerate(lines[1:], 2)
        if line.strip()
    )
    if not scales:
        raise DataError(f"{path} has no tensors", cure)
    return Cache(int(header[1]), scales)


def _entry(line: str, where: str) -> tuple[str, float]:
    name, _, digits = line.rpartition(": ")  # names may hold ": " themselves
    if not name or not re.fullmatch(r"[0-9a-f]{1,8}", digits.strip()):
        raise DataError(
            f"{where}: {line!r} is not `tensor: scale`", "Copy the cache again, or calibrate anew"
        )
    return name, float(struct.unpack(">f", bytes.fromhex(digits.strip().zfill(8)))[0])


def text_of(cache: Cache) -> str:
    """The cache as TensorRT reads it, tensors sorted by name."""
    lines = [
        f"{name}: {struct.pack('>f', scale).hex().lstrip('0') or '0'}"
        for name, scale in sorted(cache.scales.items())
    ]
    return "\n".join([f"TRT-{cache.version}-{KIND}", *lines, ""])


def write(cache: Cache, path: Path) -> None:
    """Write a cache, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text_of(cache), encoding="utf-8")
