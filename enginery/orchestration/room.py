"""How many stages run at once: as many as this machine, or its container, has processors and memory
for.
"""

from __future__ import annotations

import os
from pathlib import Path

_STAGE_GIB = 2.0  # what the largest stages take, with room for the file cache
_MOST = 8
_CGROUP = Path("/sys/fs/cgroup")


def default_jobs() -> int:
    """At least one."""
    return max(1, min(_processors(), int(_available_gib() / _STAGE_GIB), _MOST))


def _processors() -> int:
    count = len(os.sched_getaffinity(0))
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    return min(count, int(quota) // int(period)) if quota.isdecimal() else count


def _available_gib() -> float:
    lines = _read(Path("/proc/meminfo")).splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    available = int(fields.get("MemAvailable", "2097152 kB").split()[0]) * 1024
    limit = _read(_CGROUP / "memory.max")
    if limit.isdecimal():
        used = _read(_CGROUP / "memory.current") or "0"
        available = min(available, int(limit) - int(used))
    return available / (1 << 30)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
