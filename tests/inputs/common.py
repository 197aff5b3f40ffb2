"""A small export."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from benchmarks.trouble.cases.data import picture
from enginery.sources.export import ExportSettings
from tests.conftest import ROOT

WEIGHTS = ROOT / "data/demo/yolov8n-shapes.pt"
TINY = ExportSettings("detect", (64, 64), 1, False, 17)


def folder_with(tmp_path: Path, make: Callable[[Path], object]) -> Path:
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    (folder / "images/1.png").write_bytes(picture(20, 20))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/2.png").write_bytes(picture(20, 20))
    make(folder / "images/x.png")
    return folder


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


BAD = {
    "pipe": (os.mkfifo, "x.png is a named pipe. Remove it: only files are read"),
    "socket": (socket_at, "x.png is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "x.png is a device"),
    "dangling": (
        lambda path: path.symlink_to("nowhere"),
        "x.png is a link to nowhere, which leads nowhere",
    ),
    "itself": (
        lambda path: path.symlink_to(path.name),
        "x.png is a link to x.png, which leads nowhere",
    ),
    "folder": (
        lambda path: path.symlink_to("../../elsewhere"),
        "x.png is a link to the folder .*/elsewhere: DVC does not look behind",
    ),
    "loop": (
        lambda path: path.symlink_to(".."),
        "x.png is a link to the folder .*/own: DVC does not look behind it",
    ),
    "name": (
        lambda path: path.with_name(os.fsdecode(b"caf\xe9.png")).touch(),
        r"caf\\xe9\.png: its name is not UTF-8",
    ),
}
