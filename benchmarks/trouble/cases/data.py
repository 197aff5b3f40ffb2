"""Bad data: images and labels."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.trouble.cases.case import Case
from benchmarks.trouble.cases.harm import (
    cut,
    dangling,
    empty,
    endless,
    fifo,
    folder,
    garbage,
    looping,
    on,
    set_int8,
    set_own,
    text,
)
from benchmarks.trouble.checkouts import Place

IMAGE = "data/own/validation/images/000003.jpg"
LABEL = "data/own/validation/labels/000003.txt"
CALIBRATION = "data/own/calibration/000013.jpg"


def picture(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pack = zlib.compressobj(1)
    line = bytes(1 + (width + 7) // 8)
    body = b"".join(
        [
            *(pack.compress(line * 100) for _ in range(height // 100)),
            pack.compress(line * (height % 100)),
        ]
    )
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", body + pack.flush())
        + chunk(b"IEND", b"")
    )


def add_image(name: str | bytes, content: Callable[[], bytes]) -> Callable[[Place], None]:
    """One more validation image of own."""

    def harm(place: Place) -> None:
        folder = place.root / "data/own/validation/images"
        (folder / os.fsdecode(name)).write_bytes(content())

    return harm


def not_utf8(place: Place) -> None:
    """An image whose name is Latin-1."""
    add_image(b"caf\xe9.jpg", (place.root / IMAGE).read_bytes)(place)


def without(name: str) -> Callable[[Place], None]:
    """A folder without its files."""

    def harm(place: Place) -> None:
        place.remove(name)
        (place.root / name).mkdir()

    return harm


def same_images(place: Place) -> None:
    """Calibrated with what it is validated with."""
    place.write(CALIBRATION, (place.root / IMAGE).read_bytes())


def linked_folder(place: Place) -> None:
    """Validation images elsewhere, behind a link; one of them changes, and its metric with it."""
    images = place.root / "data/own/validation/images"
    images.rename(place.folder / "elsewhere")
    images.symlink_to(place.folder / "elsewhere")
    (place.folder / "elsewhere/000003.jpg").write_bytes(
        (place.folder / "elsewhere/000002.jpg").read_bytes()
    )


def image_cases() -> Iterator[Case]:
    def image(name: str, damage: Callable[[Path], object], says: str, row: int = 0) -> Case:
        return Case(f"image: {name}", on(IMAGE, damage), says, row)

    this = r"000003\.jpg"
    yield image("a FIFO", fifo, f"{this}.*(plain file|regular file|FIFO|pipe)", 7)
    yield image("a folder", folder, f"{this}", 6)
    yield image("truncated", cut, this)
    yield image("no bytes", empty, this)
    yield image("text", garbage, this)
    yield image("a link to nothing", dangling, this, 6)
    yield image("a link to itself", looping, this, 6)
    yield image("a link to /dev/zero", endless, f"{this}.*(plain file|regular file|device)", 7)
    yield Case("image: 1x1", add_image("tiny.png", lambda: picture(1, 1)), r"tiny\.png.*pixels")
    yield Case(
        "image: 40,000 x 40,000",
        add_image("vast.png", lambda: picture(40_000, 40_000)),
        r"vast\.png",
        6,
    )
    yield Case("image: a name that is not UTF-8", not_utf8, r"caf.*\.jpg|(?i:utf-8)", 6)
    yield Case(
        "image: none", without("data/own/validation/images"), "data/own/validation.*holds no images"
    )
    yield Case("image: no such folder", set_own(validation="data/own/nowhere"), "data/own/nowhere")
    yield Case(
        "image: too few to calibrate", set_int8(minimum_images=5), "holds 4 images.*minimum_images"
    )
    yield Case("image: calibration is validation", same_images, "validation images too")
    calibrates = f"{CALIBRATION.rsplit('/', 1)[1]}"
    yield Case(
        "image: calibration has a FIFO",
        on(CALIBRATION, fifo),
        f"{calibrates}.*(plain file|regular file|FIFO|pipe)",
        7,
    )
    yield Case("image: calibration has one of no bytes", on(CALIBRATION, empty), calibrates, 6)
    yield Case("image: calibration has a folder x.jpg", on(CALIBRATION, folder), calibrates, 6)

    def changed_behind_a_link(place: Place) -> None:
        linked_folder(place)

    yield Case(
        "image: changed behind a link",
        changed_behind_a_link,
        "(?i)(link|images).*",
        4,
        after="any",
        code=None,
        check=_noticed,
    )


def _noticed(place: Place) -> str:
    """Own's list of images is of the images as they are, or a run refused the link by its name."""
    import hashlib
    import json

    listed = json.loads((place.root / "artifacts/models/own/images.json").read_text())["images"]
    now = hashlib.sha256((place.folder / "elsewhere/000003.jpg").read_bytes()).hexdigest()
    refused = place.run("build", limit=60)
    return (
        ""
        if listed.get("images/000003.jpg") == now or "link" in refused.text
        else "the changed image was not noticed"
    )


def label_cases() -> Iterator[Case]:
    def label(name: str, content: str | bytes, says: str = r"labels/000003\.txt, line 1") -> Case:
        return Case(f"label: {name}", text(content, LABEL), says)

    yield label("no numbers", "first second third fourth fifth\n")
    yield label("four values", "0 0.5 0.5 0.1\n")
    yield label("outside of the image", "0 5.5 0.5 0.1 0.1\n")
    yield label("a negative size", "0 0.5 0.5 -0.1 0.1\n")
    yield label("NaN", "0 nan 0.5 0.1 0.1\n")
    yield label("bytes", bytes(range(128, 256)) + b"\n")
    yield label(
        "a class that the model has not",
        "77 0.5 0.5 0.1 0.1\n",
        r"000003\.jpg: its labels have class 77",
    )
    yield Case("label: a huge class", text(f"{10**30} 0.5 0.5 0.1 0.1\n", LABEL), r"000003", 6)
    yield Case("label: none at all", without("data/own/validation/labels"), "holds no labels")
    yield Case(
        "label: a FIFO", on(LABEL, fifo), r"000003\.txt.*(plain file|regular file|FIFO|pipe)", 7
    )
    yield Case("label: a folder", on(LABEL, folder), r"000003\.txt", 6)
