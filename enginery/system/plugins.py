"""What other packages bring to Enginery by entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any


@cache
def plugins(group: str) -> EntryPoints:
    """The entry points of a group; the packages are looked through once for all groups."""
    selected: EntryPoints = _all().select(group=group)
    return selected


@cache
def _all() -> Any:  # Python 3.11 has another type for it than 3.12
    return entry_points()
