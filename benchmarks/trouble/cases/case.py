"""What a bad input is: the harm, what must be said of it, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.trouble.checkouts import Place

After = Literal["others", "nothing", "whole", "same plans", "kept", "any"]
GOOD, OWN = "good", "own"
SIDE = 96


@dataclass(frozen=True)
class Case:
    """One bad input.

    `says` is what one line of the output must match. `after` is what must hold then:
    others: own's (or rtx-ada's) steps failed, nothing of them was registered, the rest was built.
    nothing: nothing was started. kept: the registry is as it was. whole: all is mended, and right.
    same plans: only manifests may differ, as they name another source.
    `row` is the issue's; `code` None allows 0 and 1.
    """

    name: str
    harm: Callable[[Place], object]
    says: str
    row: int = 0
    after: After = "others"
    command: tuple[str, ...] = ("build",)
    code: int | None = 1
    variables: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Place], str] = lambda place: ""
    limit_s: float = 20


def harmless(place: Place) -> None:
    """Nothing: the command itself is the bad input."""


def verifies(place: Place) -> str:
    verified = place.run("verify", limit=60)
    return "" if verified.code == 0 else f"verify afterwards: {verified.last()}"
