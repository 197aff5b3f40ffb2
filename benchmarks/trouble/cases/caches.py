"""Bad calibration caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.trouble.cases.case import OWN, Case, harmless
from benchmarks.trouble.cases.harm import text
from benchmarks.trouble.checkouts import Place


def cache(edit: Callable[[list[str]], list[str]]) -> Callable[[Place], None]:
    """A calibration cache made of own's, as data/own.cache."""

    def harm(place: Place) -> None:
        lines = (
            (place.root / "artifacts/models/own/calibration/calibration.cache")
            .read_text()
            .splitlines()
        )
        place.write("data/own.cache", "\n".join(edit(lines)) + "\n")

    return harm


def and_used(harm: Callable[[Place], object]) -> Callable[[Place], None]:
    """The cache is what params.yaml names."""
    named = {"calibration": "data/own.cache", "rule": "yolo-head-1"}

    def both(place: Place) -> None:
        harm(place)
        place.change(lambda params: params["int8"].update({OWN: named}))

    return both


def cache_cases() -> Iterator[Case]:
    def other(lines: list[str]) -> list[str]:
        return [lines[0], *(f"elsewhere/{line}" for line in lines[1:])]

    def not_a_number(lines: list[str]) -> list[str]:
        return [*lines[:3], f"{lines[3].rsplit(': ', 1)[0]}: 7fc00000", *lines[4:]]

    def negative(lines: list[str]) -> list[str]:
        return [*lines[:3], f"{lines[3].rsplit(': ', 1)[0]}: bf800000", *lines[4:]]

    edits: list[tuple[str, Callable[[list[str]], list[str]], str]] = [
        (
            "cut",
            lambda lines: [*lines[: len(lines) // 2], lines[len(lines) // 2][:-12]],
            r"own\.cache",
        ),
        ("NaN", not_a_number, r"own\.cache"),
        ("negative", negative, r"own\.cache"),
        ("of another model", other, r"own\.cache"),
        ("without its first line", lambda lines: lines[1:], r"own\.cache"),
        ("empty", lambda lines: [], r"own\.cache"),
    ]
    command = ("calibration", "import", OWN, "data/own.cache")
    for name, edit, says in edits:
        yield Case(f"cache: {name}, import", cache(edit), says, 0, "kept", command)
        yield Case(f"cache: {name}, build", and_used(cache(edit)), says)
    yield Case(
        "cache: binary, import",
        text(bytes(range(256)), "data/own.cache"),
        r"own\.cache",
        6,
        "kept",
        command,
    )
    yield Case("cache: missing, import", harmless, r"own\.cache", 6, "kept", command)
    yield Case("cache: missing, build", and_used(harmless), r"own\.cache", 6)
    yield Case(
        "cache: of no model, import",
        cache(list),
        "moon",
        0,
        "kept",
        ("calibration", "import", "moon", "data/own.cache"),
    )
