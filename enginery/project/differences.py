"""What differs between two recipes, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Every leaf that differs, as `name old -> new`; the leaf's own key names it."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), key)
    elif old != new:
        yield f"{name} {_text(old)} -> {_text(new)}"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
