"""A plan file checked without loading it: digest, size, header. An engine file is executable code,
so this comes before any load.

TensorRT-RTX's header as read off its plans: `vtrt` at 0, the file's size (u64) at 16, the version's
four parts at 24, and at 32 a mask of the compute capabilities the plan holds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from enginery import runtimes
from enginery.errors import IntegrityError
from enginery.system.files import sha256

_MAGIC = b"vtrt"
_HEADER = struct.Struct("<4s12xQ4B4xI")
_CAPABILITIES = {1: "7.5", 2: "8.0", 4: "8.6", 8: "8.9", 16: "12.0", 32: "12.1"}
_CURE = "`enginery verify --restore` brings it back, or has the next `enginery build` make it again"


@dataclass(frozen=True)
class PlanHeader:
    """What a plan says of itself: TensorRT-RTX version, compute capabilities (of a portable plan:
    all it runs on).
    """

    version: str
    compute_capabilities: tuple[str, ...]


def read_header(path: Path) -> PlanHeader:
    """Read a TensorRT-RTX plan's header.

    Raises:
        IntegrityError: the file is no plan, or not all of it is there.
    """
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size or start[:4] != _MAGIC:
        raise IntegrityError(f"{path} is no TensorRT-RTX plan", _CURE)
    _, total, *version, mask = _HEADER.unpack(start)
    if total != path.stat().st_size:
        raise IntegrityError(
            f"{path} has {path.stat().st_size} bytes, its header says {total}", _CURE
        )
    names = tuple(name for bit, name in _CAPABILITIES.items() if mask & bit)
    return PlanHeader(".".join(map(str, version)), names)


def check_digest(path: Path, digest: str) -> None:
    """Read every byte of a plan.

    Raises:
        IntegrityError: they are not those recorded.
    """
    actual = sha256(path)
    if actual != digest:
        raise IntegrityError(
            f"{path}: sha256 {actual[:12]}, {digest[:12]} is recorded: a byte changed", _CURE
        )


def check_built(path: Path, digest: str, runtime: str, compute_capability: str | None) -> None:
    """Check all that a runtime's plans can be checked by without loading them.

    Raises:
        IntegrityError: the plan is not what was built.
    """
    runtimes.find(runtime).check_plan(path, digest, compute_capability)


def check_plan(path: Path, digest: str, compute_capability: str | None) -> PlanHeader:
    """The header of a plan whose bytes are those recorded and which is for `compute_capability`.

    Raises:
        IntegrityError: it is not.
    """
    check_digest(path, digest)
    header = read_header(path)
    if compute_capability and header.compute_capabilities != (compute_capability,):
        has = ", ".join(header.compute_capabilities) or "none known"
        raise IntegrityError(
            f"{path} is for compute capability {has}, not {compute_capability}", _CURE
        )
    return header
