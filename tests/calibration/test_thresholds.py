"""Histograms, thresholds of each algorithm, and calibration caches."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from enginery.calibration import cache
from enginery.calibration.histogram import Histogram
from enginery.calibration.thresholds import clipped, entropy, minmax, mse, percentile, thresholds_of
from enginery.errors import DataError
from tests.conftest import ROOT


def counted(*parts: NDArray[np.float32]) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def normal(count: int = 100_000, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def test_order_and_batches_do_not_count() -> None:
    values = normal()
    values[-3:] = (50, -0.001, 7)
    whole = counted(values)
    pieces = counted(*np.array_split(values[::-1], 7))
    assert (whole.exponent, whole.amax) == (pieces.exponent, pieces.amax) == (6, 50.0)
    assert np.array_equal(whole.counts, pieces.counts)
    assert whole.counts.sum() == len(values)


def test_bins_are_exact() -> None:
    histogram = counted(np.array([0.0, -0.0, 1.0, -1.0, 1.5], np.float32))
    assert histogram.width == 2 / 4096
    assert {index: int(count) for index, count in enumerate(histogram.counts) if count} == {
        0: 2,
        2047: 1,
        2048: 1,
        3072: 1,
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused_and_count_nothing(bad: float) -> None:
    histogram = counted(normal(1000))
    before = histogram.counts.copy()
    with pytest.raises(ValueError, match="NaN"):
        histogram.add(np.array([1, bad, 2], np.float32))
    assert np.array_equal(histogram.counts, before)


def test_thresholds_of_a_uniform_range_keep_it() -> None:
    values = np.linspace(-1, 1, 200_001, dtype=np.float32)
    histogram = counted(values)
    assert minmax(histogram) == 1.0
    assert percentile(histogram, 99) == pytest.approx(0.99, abs=1e-3)
    assert entropy(histogram) == pytest.approx(1.0, abs=0.02)
    assert mse(histogram) == pytest.approx(1.0, abs=0.02)


def test_an_outlier_is_clipped_by_all_but_minmax() -> None:
    values = np.append(normal(1_000_000), np.float32(40))
    histogram = counted(values)
    assert minmax(histogram) == 40.0
    for found in (percentile(histogram, 99.99), entropy(histogram), mse(histogram)):
        assert 2 < found < 12
    assert clipped(histogram, 20) == pytest.approx(1e-6, rel=0.01)


def test_mse_is_the_least_error_over_the_values_themselves() -> None:
    values = np.append(normal(50_000), np.float32(9))

    def error(threshold: float) -> float:
        scale = threshold / 127
        return float(np.square(np.clip(np.rint(values / scale), -127, 127) * scale - values).sum())

    found = mse(counted(values))
    assert (
        error(found) <= min(error(found * factor) for factor in (0.5, 0.7, 0.9, 1.1, 1.3, 2)) * 1.01
    )


def test_entropy_agrees_with_the_plain_algorithm() -> None:
    """The prefix sums against the algorithm of the source written out loop by loop."""
    histogram = counted(np.abs(normal(20_000)) ** 1.5)
    counts = histogram.counts.astype(float)
    used = int(np.flatnonzero(counts)[-1]) + 1

    def divergence(end: int) -> float:
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        if counts[end:].sum() > 0.1 * counts.sum() or (
            counts[end - 1] == 0 and counts[end:].sum() > 0
        ):
            return np.inf
        quantized = np.zeros(end)
        for level in range(128):
            part = slice(end * level // 128, end * (level + 1) // 128)
            filled = counts[part] > 0
            if filled.any():
                quantized[part][filled] = counts[part].sum() / filled.sum()
        p, q = reference / reference.sum(), quantized / quantized.sum()
        return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())

    ends = range(used - 60, used + 1)
    expected = [divergence(end) for end in ends]
    from enginery.calibration.thresholds import _divergence

    assert np.allclose(_divergence(counts, np.array(ends)), expected, atol=1e-9)


def test_all_zero_activations_are_named() -> None:
    with pytest.raises(
        DataError, match="1 of 2 tensors are zero on every calibration image, dead first"
    ):
        thresholds_of(
            {"dead": counted(np.zeros(5, np.float32)), "alive": counted(normal(5))}, "mse", 99.99
        )


def test_caches_are_read_and_written_as_tensorrt_does(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    path.write_text(
        "TRT-8600-EntropyCalibration2\nimages: 3c010a14\n(Unnamed Layer* 0) [Constant]_output: 0\nodd: name: 3f800000\n"
    )
    found = cache.read(path)
    assert found.version == 8600
    assert found.scales["images"] == struct.unpack(">f", bytes.fromhex("3c010a14"))[0]
    assert (found.scales["odd: name"], found.scales["(Unnamed Layer* 0) [Constant]_output"]) == (
        1.0,
        0.0,
    )
    for version, number in (("8.6.0", 8600), ("8.5.3.1", 8503), ("10.16.1.11", 101601)):
        cache.write(cache.Cache(cache.version_number(version), found.scales), tmp_path / "b.cache")
        lines = (tmp_path / "b.cache").read_text().splitlines()
        assert lines[0] == f"TRT-{number}-EntropyCalibration2"
        assert lines[1:] == sorted(path.read_text().splitlines()[1:])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: a TensorRT calibration cache begins with"),
        ("no cache\n", "line 1"),
        ("TRT-8600-EntropyCalibration2\n", "has no tensors"),
        ("TRT-8600-EntropyCalibration2\nimages: 3c01", "cut off in line 2"),
        ("TRT-8600-EntropyCalibration2\nimages\n", "line 2: 'images' is not"),
        ("TRT-8600-EntropyCalibration2\nimages: 3c0112222\n", "line 2"),
    ],
)
def test_bad_caches(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.cache").write_text(text)
    with pytest.raises(DataError, match=words):
        cache.read(tmp_path / "a.cache")


def test_a_cache_of_another_model() -> None:
    with pytest.raises(
        DataError,
        match=r"it has no range for 1 of the graph's 2 tensors, b first\. It was made for another model",
    ):
        cache.check_tensors(cache.Cache(8600, {"a": 1.0}), ["a", "b"], "it")
    with pytest.raises(DataError, match="the range of a is 0"):
        cache.check_tensors(cache.Cache(8600, {"a": 0.0}), ["a"], "it")


def test_the_sample_that_tensorrt_wrote_is_the_same_after_a_round_trip(tmp_path: Path) -> None:
    sample = ROOT / "tests/data/tensorrt-8.6.0-entropy2-yolov8n.cache"
    shutil.copyfile(sample, tmp_path / "a.cache")
    found = cache.read(tmp_path / "a.cache")
    cache.write(found, tmp_path / "b.cache")
    assert sorted((tmp_path / "b.cache").read_text().splitlines()) == sorted(
        sample.read_text().splitlines()
    )
    assert found.thresholds()["images"] == pytest.approx(1.0, abs=0.01)
