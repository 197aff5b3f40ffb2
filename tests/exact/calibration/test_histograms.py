"""Histograms: every value counted, every bin exact."""

from __future__ import annotations

import math

import numpy as np
import pytest

from enginery.calibration import cache, collect, histogram, thresholds
from enginery.calibration.histogram import Histogram
from tests.exact.calibration.common import counted, filled


def test_constants() -> None:
    assert (histogram.BINS, histogram._NARROWEST, histogram._CHUNK) == (4096, -40, 8388608)
    assert (thresholds.LEVELS, thresholds.MOST_CLIPPED, thresholds._CANDIDATES) == (128, 0.1, 128)
    assert (cache.STEPS, cache.CANONICAL, cache.KIND, cache.SUFFIX) == (
        127,
        8600,
        "EntropyCalibration2",
        ".cache",
    )
    assert (collect._SAVE_EVERY_S, collect._BATCHES) == (10, 8)


def test_an_empty_histogram() -> None:
    empty = Histogram()
    assert (len(empty.counts), int(empty.counts.sum()), empty.exponent, empty.amax) == (
        4096,
        0,
        -40,
        0.0,
    )
    assert empty.counts.dtype == np.int64
    assert empty.width == 2.0**-52
    empty.add(np.zeros(0, np.float32))
    assert (filled(empty), empty.exponent, empty.amax) == ({}, -40, 0.0)


def test_zeros_are_counted_in_the_first_bin_and_widen_nothing() -> None:
    zeros = counted(0, 0, 0)
    assert (filled(zeros), zeros.exponent, zeros.amax) == ({0: 3}, -40, 0.0)


def test_bins_of_a_known_range() -> None:
    """Up to 8, so 512 bins a unit; a negative value on an edge belongs to the bin below."""
    found = counted(5, 0.001, -5, 1, -1, -0.001, 4.9990234375)
    assert (found.exponent, found.width, found.amax) == (3, 1 / 512, 5.0)
    assert filled(found) == {2560: 1, 2559: 2, 512: 1, 511: 1, 0: 2}


def test_the_largest_may_be_negative() -> None:
    found = counted(-3, 1)
    assert (found.amax, found.exponent) == (3.0, 2)
    assert filled(found) == {3071: 1, 1024: 1}


def test_widening_merges_bins_exactly() -> None:
    found = counted(0.75, 0.25, 0.9997558594)
    assert (found.exponent, filled(found)) == (0, {1024: 1, 3072: 1, 4095: 1})
    found.add(np.array([[3.0]], np.float32))
    assert (found.exponent, found.amax) == (2, 3.0)
    assert filled(found) == {256: 1, 768: 1, 1023: 1, 3072: 1}
    assert len(found.counts) == 4096
    found.add(np.array([0.5], np.float32))
    assert (found.exponent, found.amax) == (2, 3.0)
    assert filled(found) == {256: 1, 512: 1, 768: 1, 1023: 1, 3072: 1}


def test_widening_by_more_than_all_bins_puts_everything_into_the_first() -> None:
    found = counted(1e-10, 2e-10)
    assert found.exponent == -32
    found.add(np.array([2.0**99], np.float32))
    assert found.exponent == 100
    assert filled(found) == {0: 2, 2048: 1}


def test_an_array_longer_than_a_chunk_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "_CHUNK", 4)
    found = counted(*[0.5, 1.5, 2.5, 3.5, 0.5, 1.5, 2.5, 3.5, 0.5])
    assert filled(found) == {512: 3, 1536: 2, 2560: 2, 3584: 2}


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int32])
def test_any_type_is_counted(kind: type) -> None:
    found = Histogram()
    found.add(np.array([1, 3, -2], kind))
    assert filled(found) == {1024: 1, 3072: 1, 2047: 1}


def test_any_shape_and_order_in_memory_is_counted() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    found = Histogram()
    found.add(values)
    assert filled(found) == {value * 128: 1 for value in range(24)}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_values_are_said(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^NaN or infinite$"):
        counted(1, bad)
