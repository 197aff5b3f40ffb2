"""Sources: the kinds of model files, one module each behind `interface.Source`.

Another package adds one by an entry point of the group `enginery.sources`: a suffix without its
dot, and an object of that interface.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from enginery.sources import onnx, torchvision, ultralytics
from enginery.sources.interface import Source
from enginery.system.plugins import plugins

GROUP = "enginery.sources"
_OWN: tuple[Source, ...] = (ultralytics.SOURCE, onnx.SOURCE, torchvision.SOURCE)


@cache
def suffixes() -> tuple[str, ...]:
    """Of every file that a model may come from."""
    others = sorted(f".{name}" for name in plugins(GROUP).names)
    return (*(source.suffix for source in _OWN), *others)


def find(path: str | Path) -> Source:
    """The source that a file is.

    Raises:
        KeyError: there is none of its suffix.
    """
    return _find(Path(path).suffix)


@cache
def _find(suffix: str) -> Source:
    for source in _OWN:
        if source.suffix == suffix:
            return source
    other: Source = plugins(GROUP)[suffix.removeprefix(".")].load()
    return other
