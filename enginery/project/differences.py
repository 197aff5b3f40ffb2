"""What differs between two recipes, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Every leaf that differs, as `name old -> new`; the leaf's own key names it.

    Where a whole group is new or gone, its leaves are.
    """
    before, after = ({} if side is None else side for side in (old, new))
    if old != new and isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), key)
    elif old != new:
        yield f"{name} {_text(old)} -> {_text(new)}"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
