"""Histograms on disk: the finished ones beside the cache, and a run's own so far, which goes on
only where its key is the same.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from enginery.calibration.histogram import Histogram
from enginery.errors import DataError
from enginery.system.files import atomic_write

_SPOILED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    zipfile.BadZipFile,
)  # as NumPy says it; EOFError is of an empty file


def save(path: Path, key: str, done: int, histograms: Mapping[str, Histogram]) -> None:
    """Write histograms and how many images they have seen; the same ones are the same bytes."""
    names = sorted(histograms)
    arrays: dict[str, Any] = {
        "key": np.array(key),
        "done": np.array(done),
        "names": np.array(names),
        "counts": np.stack([histograms[name].counts for name in names]),
        "exponents": np.array([histograms[name].exponent for name in names]),
        "amax": np.array([histograms[name].amax for name in names]),
    }
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path, key: str) -> tuple[int, dict[str, Histogram]] | None:
    """What a run with this key has counted; None where there is nothing of it."""
    try:
        found_key, done, histograms = _read(path)
    except _SPOILED:
        return None  # none, or one that a crash spoiled: counting again is right
    return (done, histograms) if found_key == key else None


def images_done(path: Path, key: str) -> int:
    """How many images a stopped run with this key has counted."""
    saved = load(path, key)
    return saved[0] if saved else 0


def finished(path: Path) -> dict[str, Histogram]:
    """The histograms beside a cache.

    Raises:
        DataError: there are none: the cache was imported, or not made yet.
    """
    try:
        return _read(path)[2]
    except _SPOILED:
        raise DataError(
            f"{path} holds no histograms",
            "An imported cache has none; otherwise run `enginery build`",
        ) from None


def _read(path: Path) -> tuple[str, int, dict[str, Histogram]]:
    with np.load(path, allow_pickle=False) as arrays:
        rows = zip(
            arrays["names"], arrays["counts"], arrays["exponents"], arrays["amax"], strict=True
        )
        histograms = {
            str(name): Histogram(counts.copy(), int(exponent), float(amax))
            for name, counts, exponent, amax in rows
        }
        return str(arrays["key"]), int(arrays["done"]), histograms
