"""Damage to what DVC keeps: its lock, its cache and its remote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.trouble.cases.case import Case, verifies
from benchmarks.trouble.cases.harm import (
    binary,
    cut,
    empty,
    folder,
    gone,
    half_conflict,
    on,
    set_int8,
    text,
)
from benchmarks.trouble.checkouts import Place


def remote(url: str) -> Callable[[Place], None]:
    """A DVC remote, and a plan that is not in the checkout."""

    def harm(place: Place) -> None:
        config = (place.root / ".dvc/config").read_text()
        assert config.startswith("[core]\n")
        config = config.replace("[core]\n", "[core]\n    remote = far\n", 1)
        place.write(".dvc/config", f"{config}['remote \"far\"']\n    url = {url}\n")

    return harm


def plan_of(name: str) -> Callable[[Place], Path]:
    """The object in DVC's cache that is a file of the checkout."""

    def find(place: Place) -> Path:
        import hashlib

        digest = hashlib.md5((place.root / name).read_bytes(), usedforsecurity=False).hexdigest()
        return place.root / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}"

    return find


def flipped_object(place: Place) -> None:
    """A bit of a plan flips in DVC's cache, and the plan itself is lost."""
    plan = "artifacts/build/own/rtx-ada/fp16/model.plan"
    path = plan_of(plan)(place).relative_to(place.root)
    data = bytearray((place.root / path).read_bytes())
    data[len(data) // 2] ^= 1
    place.write(str(path), bytes(data)).chmod(0o444)
    place.remove(plan)


def lost_object(place: Place) -> None:
    """A plan is lost in DVC's cache and in the checkout."""
    plan = "artifacts/build/own/rtx-ada/fp16/model.plan"
    path = plan_of(plan)(place)
    place.remove(plan)
    path.unlink()


def dvc_cases() -> Iterator[Case]:
    for name, damage in (("empty", empty), ("half", cut), ("binary", binary), ("missing", gone)):
        harm = on("dvc.lock", damage)
        says = "" if name == "missing" else r"dvc\.lock"
        yield Case(f"dvc.lock: {name}, build", harm, says, 1, "whole", code=0, limit_s=60)
        yield Case(f"dvc.lock: {name}, status", harm, "", 1, "kept", ("status",), None)
    merged = on("dvc.lock", half_conflict)
    for command in ("build", "status"):
        name = f"dvc.lock: a merge conflict, {command}"
        yield Case(name, merged, r"dvc\.lock.*conflict", 1, "kept", (command,))
    yield Case("dvc.lock: a folder", on("dvc.lock", folder), r"dvc\.lock", 1, "kept", code=None)
    yield Case(
        "dvc: a flipped object in the cache",
        flipped_object,
        "",
        3,
        "whole",
        code=0,
        check=verifies,
        limit_s=40,
    )
    yield Case("dvc: a lost object in the cache", lost_object, "", 0, "whole", code=0, limit_s=40)
    yield Case(
        "dvc: a remote folder that is not there", remote("/nowhere/at/all"), "", 6, "whole", code=0
    )
    yield Case(
        "dvc: a remote host that is not there",
        remote("http://127.0.0.1:9/x"),
        "127.0.0.1:9|far",
        6,
        "kept",
        code=None,
    )
    yield Case(
        "dvc: a remote of an unknown kind", remote("gopher://x/y"), "gopher", 6, "kept", code=None
    )
    yield Case(
        "dvc: its config is no config",
        text("[core\n", ".dvc/config"),
        r"\.dvc/config|DVC",
        6,
        "nothing",
    )
    yield Case(
        "dvc: no .dvc", lambda place: place.remove(".dvc"), "no DVC project|not .*DVC", 0, "any"
    )
    yield Case(
        "dvc: half of a list of locks", text('{"a', ".dvc/tmp/rwlock"), "", 0, "whole", code=0
    )
    broken = {
        "recipe": "artifacts/recipes/export/own.json",
        "record": "artifacts/models/own/export/record.json",
        "list of images": "artifacts/models/own/images.json",
        "machine": "artifacts/workplace.json",
        "calibration cache": "artifacts/models/own/calibration/calibration.cache",
        "simplified graph": "artifacts/models/own/simplify/model.onnx",
    }
    for name, path in broken.items():
        for how, damage in (("cut", cut), ("a folder", folder)):
            yield Case(
                f"artifacts: {name}, {how}", on(path, damage), "", 6, "whole", code=0, limit_s=40
            )

    def half_counted(place: Place) -> None:
        place.write("artifacts/models/own/calibration-so-far.npz", b"PK half of it")
        set_int8(algorithm="minmax")(place)

    yield Case(
        "artifacts: a calibration so far that is cut",
        half_counted,
        "",
        6,
        "any",
        code=0,
        limit_s=60,
    )
