"""Thresholds of each algorithm against the plain algorithm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from enginery.calibration import thresholds
from enginery.calibration.histogram import Histogram
from enginery.errors import DataError
from tests.exact.calibration.common import counted, filled, made


def test_minmax() -> None:
    assert thresholds.minmax(counted(-3, 1)) == 3.0


def test_percentile_is_interpolated_within_its_bin() -> None:
    """Ten values in the bin from 1 to 1 + 1/1024 (range up to 4), 90 in the first."""
    found = made({0: 90, 1024: 10}, 2, 3.9)
    assert thresholds.percentile(found, 95) == 1024.5 / 1024
    assert thresholds.percentile(found, 90) == 1 / 1024  # the whole first bin
    assert thresholds.percentile(found, 45) == 0.5 / 1024
    assert thresholds.percentile(found, 100) == 1025 / 1024
    assert thresholds.percentile(found, 99) == pytest.approx(1024.9 / 1024, rel=1e-12)
    assert (
        thresholds.percentile(made({0: 90, 1024: 10}, 2, 1.0001), 100) == 1.0001
    )  # never beyond the largest
    assert thresholds.percentile(made({5: 1}, 0, 1.0), 0) == 0.0
    assert thresholds.percentile(made({1024: 1}, 2, 3.9), 50) == 1024.5 / 1024


def test_mse_against_every_candidate_one_by_one() -> None:
    random = np.random.default_rng(3)
    found = Histogram()
    found.add(np.append(random.standard_normal(4000), [6.5, -7.25]).astype(np.float32))
    best, least = 0.0, math.inf
    for step in range(1, 129):
        threshold, error = 7.25 * step / 128, 0.0
        for index, count in filled(found).items():
            value = (index + 0.5) * found.width
            level = min(round(value / (threshold / 127)), 127)
            error += count * (level * threshold / 127 - value) ** 2
        if error < least:
            best, least = threshold, error
    assert thresholds.mse(found) == best


def test_mse_of_a_few_values_in_their_bins() -> None:
    """Half bins decide here: values count as the middles of their bins, and levels go up to 127."""
    random = np.random.default_rng(11)
    for _ in range(15):
        bins = {int(index): int(count) for index, count in random.integers(1, 40, (4, 2))}
        found = made(bins, 0, (max(bins) + 0.75) / 4096)
        assert thresholds.mse(found) == mse_by_hand(found)


def mse_by_hand(found: Histogram) -> float:
    best, least = 0.0, math.inf
    for step in range(1, 129):
        threshold, error = found.amax * step / 128, 0.0
        for index, count in filled(found).items():
            value = (index + 0.5) * found.width
            level = min(round(value / (threshold / 127)), 127)
            error += count * (level * (threshold / 127) - value) ** 2
        if error < least * (1 - 1e-12):
            best, least = threshold, error
    return best


def test_levels_end_at_127() -> None:
    assert thresholds._rounded(np.array([0.004, 0.006, 1.264, 1.266, 9.0]), 1.27).tolist() == [
        0.0,
        0.01,
        1.26,
        1.27,
        1.27,
    ]


def test_mse_of_one_value_is_that_value() -> None:
    """Only the middle of a bin at the very end of the range: all of the range is the best."""
    assert thresholds.mse(made({4095: 7}, 0, 4095.5 / 4096)) == 4095.5 / 4096


def divergence(counts: NDArray[np.int64], end: int) -> float:
    """KL(P || Q) of the first `end` bins, bin by bin, as the slides of the source have it."""
    total, kept = int(counts.sum()), int(counts[:end].sum())
    outliers = total - kept
    if 10 * outliers > total or (counts[end - 1] == 0 and outliers):
        return math.inf
    q = [0.0] * end
    for level in range(128):
        bins = [
            index for index in range(end * level // 128, end * (level + 1) // 128) if counts[index]
        ]
        for index in bins:
            q[index] = sum(int(counts[each]) for each in bins) / len(bins) / kept
    found = 0.0
    for index in range(end):
        p = (int(counts[index]) + (outliers if index == end - 1 else 0)) / total
        if p:
            found += p * math.log(p / q[index])
    return found


def entropy_by_hand(found: Histogram) -> float:
    counts = found.counts
    used = max(filled(found)) + 1
    best, least = 128, math.inf
    for end in range(128, used + 1):
        now = divergence(counts, end)
        if now <= least + 1e-12:
            best, least = end, min(now, least)
    return min(best * found.width, found.amax)


def sharp(seed: int, outlier: float, size: int = 600) -> Histogram:
    random = np.random.default_rng(seed)
    found = Histogram()
    found.add(np.append(np.abs(random.standard_normal(size)) ** 3 / 40, outlier).astype(np.float32))
    return found


@pytest.mark.parametrize(("seed", "outlier"), [(0, 1.9), (1, 0.99), (2, 7.0), (3, 1.0)])
def test_entropy_against_the_plain_algorithm(seed: int, outlier: float) -> None:
    found = sharp(seed, outlier)
    narrow = Histogram(
        np.concatenate([found.counts.reshape(-1, 8).sum(axis=1), np.zeros(3584, np.int64)]),
        found.exponent + 3,
        found.amax,
    )
    assert thresholds.entropy(narrow) == entropy_by_hand(narrow)


def test_each_divergence_against_the_plain_algorithm() -> None:
    counts = sharp(5, 1.5).counts.reshape(-1, 8).sum(axis=1)
    ends = np.arange(128, 513)
    found = thresholds._divergence(counts.astype(np.float64), ends)
    expected = [divergence(counts, int(end)) for end in ends]
    assert [math.isinf(value) for value in found] == [math.isinf(value) for value in expected]
    finite = [(a, b) for a, b in zip(found.tolist(), expected, strict=True) if not math.isinf(b)]
    assert len(finite) > 30
    assert all(a == pytest.approx(b, abs=1e-11) for a, b in finite)


def test_entropy_clips_a_tenth_at_most() -> None:
    """1224 values in 128 bins that four wide levels would blur, and outliers: clipping them all is
    best wherever it is allowed.
    """
    counts = {index: 35 if index % 4 == 3 else 1 for index in range(128)} | {0: 9}
    exactly = made({**counts, 500: 136}, 0, 501 / 4096)
    assert sum(counts.values()) == 9 * 136
    assert thresholds.entropy(exactly) == entropy_by_hand(exactly) == 128 / 4096
    more = made({**counts, 500: 137}, 0, 501 / 4096)
    assert thresholds.entropy(more) == entropy_by_hand(more) == 501 / 4096


def test_the_last_bin_counts_as_well() -> None:
    counts = np.zeros(4096, np.int64)
    counts[:128], counts[4095] = 7, 40
    [found] = thresholds._divergence(counts.astype(np.float64), np.array([128]))
    assert found == pytest.approx(divergence(counts, 128), abs=1e-12)


def test_entropy_of_few_bins_keeps_the_range() -> None:
    assert thresholds.entropy(made({0: 5, 127: 1}, 0, 127.5 / 4096)) == 127.5 / 4096
    # 129 bins: there is a choice, and the widest of what is equal counts.
    assert thresholds.entropy(
        made(dict.fromkeys(range(129), 4), 0, 128.5 / 4096)
    ) == entropy_by_hand(made(dict.fromkeys(range(129), 4), 0, 128.5 / 4096))


def test_of_equal_minima_the_widest_counts() -> None:
    """Every candidate without outliers is the same as its quantized self: all that end in empty
    bins weigh nothing.
    """
    found = made(dict.fromkeys(range(0, 512, 4), 3), 0, 0.25)
    ends = range(128, 510)
    values = thresholds._divergence(found.counts.astype(np.float64), np.array(ends))
    least = [end for end, value in zip(ends, values, strict=True) if value == min(values)]
    assert thresholds.entropy(found) == least[-1] / 4096


def test_an_entropy_never_exceeds_the_largest_value() -> None:
    found = made(dict.fromkeys(range(256), 3), 0, 255.25 / 4096)
    assert thresholds.entropy(found) == 255.25 / 4096


def test_xlogx() -> None:
    assert thresholds._xlogx(np.array([0.0, 1.0, 2.0, 10.0])).tolist() == [
        0.0,
        0.0,
        2 * math.log(2),
        10 * math.log(10),
    ]


def test_each_name_has_its_algorithm() -> None:
    assert thresholds.finder("entropy", 99) is thresholds.entropy
    assert thresholds.finder("minmax", 99) is thresholds.minmax
    assert thresholds.finder("mse", 99) is thresholds.mse
    found = made({0: 90, 1024: 10}, 2, 3.9)
    assert thresholds.finder("percentile", 95)(found) == 1024.5 / 1024
    assert thresholds.thresholds_of({"a": found, "b": counted(-3)}, "minmax", 50) == {
        "a": 3.9,
        "b": 3.0,
    }
    assert thresholds.thresholds_of({"a": found}, "percentile", 95) == {"a": 1024.5 / 1024}
    with pytest.raises(DataError) as error:
        thresholds.thresholds_of(
            {"a": found, "dead": counted(0), "gone": Histogram()}, "minmax", 50
        )
    assert str(error.value) == (
        "2 of 3 tensors are zero on every calibration image, dead first. Give images that the model reacts to, or repair the model"
    )


def test_the_clipped_share() -> None:
    found = made({0: 6, 1: 3, 1024: 1}, 2, 2.0)
    assert thresholds.clipped(found, 2 / 1024) == 0.1
    assert thresholds.clipped(found, 1.5 / 1024) == 0.1
    assert thresholds.clipped(found, 1 / 1024) == 0.4
    assert thresholds.clipped(found, 4.0) == 0.0
    assert thresholds.clipped(Histogram(), 1.0) == 0.0
    alone = Histogram()
    alone.add(np.float32([0.75]))
    assert thresholds.clipped(alone, 0.25) == 1.0
