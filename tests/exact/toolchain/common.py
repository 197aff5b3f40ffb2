"""An interpreter, and a plan with the header that TensorRT-RTX writes."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

PYTHON = Path("/env/python")


def a_plan(
    path: Path,
    mask: int = 8,
    version: tuple[int, ...] = (1, 7, 1, 116),
    wrong: int = 0,
    size: int = 40,
) -> str:
    """A plan with a header as TensorRT-RTX writes it; its digest."""
    data = (
        b"vtrt"
        + bytes(12)
        + struct.pack("<Q", size + wrong)
        + bytes(version)
        + bytes(4)
        + struct.pack("<I", mask)
    )
    path.write_bytes(data + bytes(size - len(data)))
    return hashlib.sha256(path.read_bytes()).hexdigest()
