"""How many stages run at once: as many as this machine has processors and memory for."""

from __future__ import annotations

import os

_STAGE_GIB = 2.0  # what the largest stages take, with room for the file cache
_MOST = 8


def default_jobs() -> int:
    """At least one."""
    processors = len(os.sched_getaffinity(0))
    return max(1, min(processors, int(_available_gib() / _STAGE_GIB), _MOST))


def _available_gib() -> float:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
