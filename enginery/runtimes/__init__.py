"""Runtimes: the kinds of engines, one module each behind `interface.Runtime`.

Another package adds one by an entry point of the group `enginery.runtimes`: a name, and an object
of that interface.
"""

from __future__ import annotations

from functools import cache

from enginery.runtimes import tensorrt, tensorrt_rtx
from enginery.runtimes.interface import Runtime
from enginery.system.plugins import plugins

GROUP = "enginery.runtimes"
_OWN: tuple[Runtime, ...] = (tensorrt.RUNTIME, tensorrt_rtx.RUNTIME)


@cache
def names() -> tuple[str, ...]:
    """Every runtime that params.yaml may name."""
    return (*(runtime.name for runtime in _OWN), *sorted(plugins(GROUP).names))


@cache
def find(name: str) -> Runtime:
    """The runtime of a name.

    Raises:
        KeyError: there is none.
    """
    for runtime in _OWN:
        if runtime.name == name:
            return runtime
    other: Runtime = plugins(GROUP)[name].load()
    return other
