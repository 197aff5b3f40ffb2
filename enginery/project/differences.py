"""What differs between two recipes, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leaf:
    """A value that differs; its own key names it, and None is a value that is not there."""

    name: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.name} {_text(self.old)} -> {_text(self.new)}"


def differences(old: Any, new: Any) -> Iterator[str]:
    """Every leaf that differs, as `name old -> new`."""
    return map(str, leaves(old, new))


def leaves(old: Any, new: Any, name: str = "") -> Iterator[Leaf]:
    """Every leaf that differs. Where a whole group is new or gone, its leaves are."""
    before, after = ({} if side is None else side for side in (old, new))
    if old != new and isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            yield from leaves(before.get(key), after.get(key), key)
    elif old != new:
        yield Leaf(name, old, new)


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
