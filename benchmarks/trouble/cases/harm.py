"""Harm that may come to any file, and to any part of params.yaml."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.trouble.cases.case import OWN
from benchmarks.trouble.checkouts import Place

CONFLICT = "<<<<<<< HEAD\n{0}=======\n{0}>>>>>>> theirs\n"


def on(name: str, damage: Callable[[Path], object]) -> Callable[[Place], None]:
    """Harm that comes to one file, which may be changed where it lies."""

    def harm(place: Place) -> None:
        place.write(name, (place.root / name).read_bytes())
        damage(place.root / name)

    return harm


def cut(path: Path) -> None:
    """Half of a file is lost."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """A file without a byte."""
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    """Text where there should be something else."""
    path.write_text("what is this?\n")


def binary(path: Path) -> None:
    """Bytes that are no text."""
    path.write_bytes(bytes(range(256)) * 8)


def overwritten(path: Path) -> None:
    """2,000 bytes in the middle are 0xFF."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(data)


def flipped(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def conflict(path: Path) -> None:
    """What a merge leaves behind."""
    path.write_text(CONFLICT.format(path.read_text()))


def half_conflict(path: Path) -> None:
    """A merge's markers around some lines in the middle."""
    lines = path.read_text().splitlines(keepends=True)
    middle = len(lines) // 2
    path.write_text(
        "".join([*lines[:middle], CONFLICT.format(lines[middle]), *lines[middle + 1 :]])
    )


def gone(path: Path) -> None:
    """No file."""
    path.unlink()


def folder(path: Path) -> None:
    """A folder of its name."""
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def fifo(path: Path) -> None:
    """A pipe that nobody writes into: reading waits for ever."""
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    """A link to nothing."""
    path.unlink()
    path.symlink_to("nowhere")


def looping(path: Path) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    """A link to a device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def set_own(**values: Any) -> Callable[[Place], None]:
    """Change models.own."""
    return lambda place: place.change(lambda params: params["models"][OWN].update(values))


def set_int8(**values: Any) -> Callable[[Place], None]:
    """Change int8.own."""
    return lambda place: place.change(lambda params: params["int8"][OWN].update(values))


def set_matrix(**values: Any) -> Callable[[Place], None]:
    """Change the matrix."""
    return lambda place: place.change(lambda params: params["matrix"].update(values))


def text(content: str | bytes, name: str = "params.yaml") -> Callable[[Place], None]:
    """Another content of a file."""

    def harm(place: Place) -> None:
        place.write(name, content)

    return harm
