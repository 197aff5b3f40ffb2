"""Calibration to the last bit: bins, thresholds, caches and states, against numbers by hand or by a
slow, plain reference.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from enginery.calibration import cache, collect, histogram, state, thresholds
from enginery.calibration import propagate as complete
from enginery.calibration.histogram import Histogram
from enginery.errors import DataError
from tests.conftest import ROOT


def counted(*values: float) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values, np.float32))
    return histogram


def filled(histogram: Histogram) -> dict[int, int]:
    return {index: int(count) for index, count in enumerate(histogram.counts) if count}


def made(counts: dict[int, int], exponent: int, amax: float) -> Histogram:
    bins = np.zeros(4096, np.int64)
    for index, count in counts.items():
        bins[index] = count
    return Histogram(bins, exponent, amax)


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


# Histograms


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


# Thresholds


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


# Caches


def test_the_bytes_of_a_cache_for_each_tensorrt(tmp_path: Path) -> None:
    """Scales are thresholds / 127, big-endian float32 in hex without leading zeros, tensors by
    name.
    """
    made_here = cache.from_thresholds(
        {"images": 1.0, "/model.0/conv: 1": 127.0, "zero": 0.0, "ä": 2.0**-130 * 127}
    )
    assert made_here.version == 8600
    lines = "\n/model.0/conv: 1: 3f800000\nimages: 3c010204\nzero: 0\nä: 80000\n"
    for version, number in {
        "8.6.0": "8600",
        "10.16.1": "101601",
        "8.5.3.1": "8503",
        "10.0.0b6": "100000",
        "9.12.34": "10234",
    }.items():
        cache.write(made_here.headed_for(version), tmp_path / "a.cache")
        assert (
            tmp_path / "a.cache"
        ).read_bytes() == f"TRT-{number}-EntropyCalibration2{lines}".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.cache"]
    assert cache.read(tmp_path / "a.cache").headed_for("10.16.1").version == 101601
    assert made_here.thresholds() == {
        "images": 1.0,
        "/model.0/conv: 1": 127.0,
        "zero": 0.0,
        "ä": 2.0**-130 * 127,
    }


def test_the_sample_of_tensorrt_itself() -> None:
    sample = ROOT / "tests/data/tensorrt-8.6.0-entropy2-yolov8n.cache"
    lines = sample.read_text().splitlines()
    found = cache.read(sample)
    assert lines[0] == "TRT-8600-EntropyCalibration2"
    assert found.version == 8600
    assert len(found.scales) == len(lines) - 1
    name, digits = lines[1].rsplit(": ", 1)
    assert found.scales[name] == struct.unpack(">f", bytes.fromhex(digits.zfill(8)))[0]
    assert found.thresholds()[name] == found.scales[name] * 127
    assert cache.text_of(found).splitlines() == [
        lines[0],
        *sorted(lines[1:], key=lambda line: line.rsplit(": ", 1)[0]),
    ]
    assert (
        cache.text_of(found.headed_for("10.16.1")).splitlines()[0]
        == "TRT-101601-EntropyCalibration2"
    )
    assert found.headed_for("10.16.1").scales == found.scales


AGAIN = "Copy the cache again, or calibrate anew"
BEGINS = "a TensorRT calibration cache begins with TRT-<version>-EntropyCalibration2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", f"PATH, line 1: {BEGINS}"),
        (b"TRT-8600\n", f"PATH, line 1: {BEGINS}"),
        (b"xTRT-8600-EntropyCalibration2\na: 1\n", f"PATH, line 1: {BEGINS}"),
        (b"TRT-8600-EntropyCalibration2\n", "PATH has no tensors"),
        (b"TRT-8600-EntropyCalibration2\n\n \n", "PATH has no tensors"),
        (b"TRT-8600-EntropyCalibration2\na: 1\nb: 3c01", "PATH is cut off in line 3"),
        (
            b"TRT-8600-EntropyCalibration2\na: 1\n\nb 3c01\n",
            "PATH, line 4: 'b 3c01' is not `tensor: scale`",
        ),
        (
            b"TRT-8600-EntropyCalibration2\n: 3c01\n",
            "PATH, line 2: ': 3c01' is not `tensor: scale`",
        ),
        (
            b"TRT-8600-EntropyCalibration2\na: 3C01\n",
            "PATH, line 2: 'a: 3C01' is not `tensor: scale`",
        ),
        (
            b"TRT-8600-EntropyCalibration2\na: 123456789\n",
            "PATH, line 2: 'a: 123456789' is not `tensor: scale`",
        ),
        (b"TRT-8600-EntropyCalibration2\na: \n", "PATH, line 2: 'a: ' is not `tensor: scale`"),
        (
            b"\xff\xfe",
            "PATH cannot be read as a calibration cache: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
    ],
)
def test_what_is_wrong_with_a_cache(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "a.cache"
    path.write_bytes(text)
    with pytest.raises(DataError) as error:
        cache.read(path)
    assert str(error.value) == f"{words}. {AGAIN}".replace("PATH", str(path))


def test_no_cache_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    with pytest.raises(DataError) as error:
        cache.read(path)
    missing = f"{path} cannot be read as a calibration cache: [Errno 2] No such file or directory: '{path}'"
    assert str(error.value) == f"{missing}. {AGAIN}"


def test_a_cache_with_blank_lines_and_spaces_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    path.write_bytes("TRT-101601-EntropyCalibration2 \n\nä: 3f800000 \nb: c: 0\n".encode())
    assert cache.read(path) == cache.Cache(101601, {"ä": 1.0, "b: c": 0.0})


def test_a_cache_without_a_tensor_or_with_a_dead_one() -> None:
    found = cache.Cache(
        8600, {"a": 1.0, "zero": 0.0, "endless": math.inf, "none": math.nan, "less": -1.0}
    )
    cache.check_tensors(found, ["a"], "it")
    with pytest.raises(DataError) as error:
        cache.check_tensors(found, ["a", "b", "zero", "c"], "it")
    assert str(error.value) == (
        "it has no range for 2 of the graph's 4 tensors, b first. "
        "It was made for another model, or another export of it: calibrate this one"
    )
    for name, value in (("zero", "0"), ("endless", "inf"), ("none", "nan"), ("less", "-1")):
        with pytest.raises(DataError) as error:
            cache.check_tensors(found, ["a", name, "less"], "it")
        assert (
            str(error.value)
            == f"it: the range of {name} is {value}. Exclude the layer that reads it, or calibrate anew"
        )


# States


def test_a_state_comes_back_whole_and_its_bytes_do_not_change(tmp_path: Path) -> None:
    some = {"b": made({3: 4}, 1, 1.25), "a ü": made({0: 1, 4095: 2}, -3, 0.1)}
    state.save(tmp_path / "one", "key", 7, some)
    state.save(tmp_path / "two", "key", 7, dict(reversed(some.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = state.load(tmp_path / "one", "key")
    assert found is not None
    done, histograms = found
    assert (done, list(histograms)) == (7, ["a ü", "b"])
    for name, each in histograms.items():
        assert (each.exponent, each.amax, filled(each)) == (
            some[name].exponent,
            some[name].amax,
            filled(some[name]),
        )
        assert each.counts.flags.writeable
    assert state.load(tmp_path / "one", "other key") is None
    assert state.images_done(tmp_path / "one", "key") == 7
    assert (
        state.images_done(tmp_path / "one", "other key")
        == state.images_done(tmp_path / "none", "key")
        == 0
    )
    assert list(state.finished(tmp_path / "one")) == ["a ü", "b"]
    # The arrays of the file are what other versions of it read.
    with np.load(tmp_path / "one") as arrays:
        assert set(arrays.files) == {"key", "done", "names", "counts", "exponents", "amax"}
        assert (str(arrays["key"]), int(arrays["done"]), arrays["amax"].tolist()) == (
            "key",
            7,
            [0.1, 1.25],
        )
        assert (arrays["names"].tolist(), arrays["exponents"].tolist()) == (["a ü", "b"], [-3, 1])


@pytest.mark.parametrize("text", [b"", b"spoiled", b"PK\x03\x04 spoiled"])
def test_a_spoiled_state_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "state").write_bytes(text)
    assert state.load(tmp_path / "state", "key") is None
    with pytest.raises(DataError) as error:
        state.finished(tmp_path / "state")
    assert str(error.value) == (
        f"{tmp_path}/state holds no histograms. An imported cache has none; otherwise run `enginery build`"
    )


def test_a_state_without_an_array_is_none(tmp_path: Path) -> None:
    with (tmp_path / "state").open("wb") as file:
        np.savez(file, key=np.array("key"))
    assert state.load(tmp_path / "state", "key") is None
    pickled = np.array([{}], dtype=object)
    with (tmp_path / "state").open("wb") as file:
        np.savez(
            file,
            key=np.array("key"),
            done=1,
            names=pickled,
            counts=pickled,
            exponents=pickled,
            amax=pickled,
        )
    assert state.load(tmp_path / "state", "key") is None  # a pickle is code: it is not read


def test_a_state_whose_arrays_do_not_belong_together_is_none(tmp_path: Path) -> None:
    arrays = {
        "names": np.array(["a", "b"]),
        "counts": np.zeros((2, 4096), np.int64),
        "exponents": [1, 2],
    }
    for amax, good in (([0.5, 1.0], True), ([0.5], False)):
        with (tmp_path / "state").open("wb") as file:
            np.savez(file, key=np.array("key"), done=1, amax=amax, **arrays)
        assert (state.load(tmp_path / "state", "key") is not None) is good


# Ranges that are derived


def graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [])


def node(kind: str, inputs: str, outputs: str) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split())


@pytest.mark.parametrize(
    "kind",
    [
        "Split",
        "Slice",
        "Concat",
        "Reshape",
        "Transpose",
        "Resize",
        "MaxPool",
        "Identity",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
    ],
)
def test_what_only_moves_values_has_one_range_on_both_sides(kind: str) -> None:
    found = complete.complete(graph(node(kind, "x", "y")), {"x": 2.0})
    assert found == {"x": 2.0, "y": 2.0}
    assert complete.complete(graph(node(kind, "x", "y")), {"y": 3.0}) == {"x": 3.0, "y": 3.0}
    assert complete.complete(graph(node(kind, "x", "y")), {"other": 1.0}) == {"other": 1.0}


def test_sizes_are_no_data_but_all_of_a_concat_is() -> None:
    assert complete.complete(graph(node("Reshape", "x shape", "y")), {"shape": 9.0}) == {
        "shape": 9.0
    }
    assert complete.complete(graph(node("Reshape", "x shape", "y")), {"y": 4.0}) == {
        "x": 4.0,
        "y": 4.0,
    }
    assert complete.complete(graph(node("Concat", "a b", "y")), {"a": 1.0, "b": 5.0}) == {
        "a": 1.0,
        "b": 5.0,
        "y": 5.0,
    }
    assert complete.complete(graph(node("Concat", "a b c", "y")), {"y": 5.0, "b": 2.0}) == {
        "a": 5.0,
        "b": 2.0,
        "c": 5.0,
        "y": 5.0,
    }
    assert complete.complete(graph(node("Split", "x", "a b")), {"a": 1.0, "b": 6.0}) == {
        "a": 1.0,
        "b": 6.0,
        "x": 6.0,
    }


def test_a_silu_a_relu_and_a_shortcut() -> None:
    silu = graph(node("Sigmoid", "x", "s"), node("Mul", "x s", "y"))
    assert complete.complete(silu, {"y": 7.0}) == {"x": 7.0, "s": 1.0, "y": 7.0}
    turned = graph(node("Sigmoid", "x", "s"), node("Mul", "s x", "y"))
    assert complete.complete(turned, {"y": 7.0}) == {"x": 7.0, "s": 1.0, "y": 7.0}
    assert complete.complete(silu, {"y": 7.0, "s": 0.5}) == {"x": 7.0, "s": 0.5, "y": 7.0}
    assert complete.complete(
        graph(node("Sigmoid", "x", "s"), node("Mul", "z s", "y")), {"y": 7.0}
    ) == {"s": 1.0, "y": 7.0}
    assert complete.complete(graph(node("Relu", "x", "y")), {"y": 7.0}) == {"x": 7.0, "y": 7.0}
    assert complete.complete(graph(node("Relu", "x", "y")), {"x": 7.0}) == {"x": 7.0}
    assert complete.complete(graph(node("Add", "a b", "y")), {"y": 7.0, "b": 2.0}) == {
        "a": 7.0,
        "b": 2.0,
        "y": 7.0,
    }
    assert complete.complete(graph(node("Conv", "a w", "y")), {"y": 7.0}) == {"y": 7.0}


def test_ranges_go_on_until_nothing_changes() -> None:
    """Forwards through a move, back through a Relu and two moves, and forwards again."""
    chain = graph(
        node("Transpose", "c", "d"),
        node("Identity", "a", "b"),
        node("Relu", "b", "c0"),
        node("Reshape", "c0", "c"),
        node("Identity", "a", "e"),
        node("Flatten", "e", "f"),
    )
    assert complete.complete(chain, {"d": 3.0}) == dict.fromkeys(
        ("a", "b", "c", "c0", "d", "e", "f"), 3.0
    )


# Collecting


def model(batch: int | str, side: int | str = 4, *, tap: str = "s") -> onnx.ModelProto:
    """y = 2x + 1, and a Sqrt of x beside it that nobody asks for."""
    two, one = (
        numpy_helper.from_array(np.array(value, np.float32), name)
        for value, name in ((2, "two"), (1, "one"))
    )
    nodes = [node("Mul", "x two", "d"), node("Add", "d one", "y"), node("Sqrt", "x", "s")]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, side, side])
        for name in ("x", "y")
    ]
    made_here = helper.make_graph(nodes, "g", ends[:1], ends[1:], [two, one])
    return helper.make_model(made_here, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Five even pictures, of the values 0, 51, 102, 153 and 204."""
    import cv2

    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((4, 4, 3), number * 51, np.uint8))
    return paths


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, "n"])
def test_every_image_is_counted_once_whatever_the_batch(
    pictures: list[Path], tmp_path: Path, batch: int | str
) -> None:
    said: list[tuple[int, int]] = []
    work = collect.CalibrationJob(model(batch), ["x", "y"], pictures, (4, 4), "detect", "k")
    found = collect.collect(work, tmp_path / "kept", lambda done, total: said.append((done, total)))
    by_hand = {"x": Histogram(), "y": Histogram()}
    for number in range(5):
        value = np.full(48, number * 51, np.float32) / np.float32(255)
        by_hand["x"].add(value)
        by_hand["y"].add(value * 2 + 1)
    assert list(found) == ["x", "y"]
    for name, expected in by_hand.items():
        assert (filled(found[name]), found[name].exponent) == (filled(expected), expected.exponent)
        assert found[name].amax == expected.amax
    step = batch if isinstance(batch, int) else 1
    assert said == [(min(done, 5), 5) for done in range(step, 5 + step, step)]
    assert not (tmp_path / "kept").exists()


def test_open_sizes_are_those_asked_for(pictures: list[Path], tmp_path: Path) -> None:
    work = collect.CalibrationJob(model("n", "side"), ["x"], pictures[:1], (6, 8), "detect", "k")
    assert (
        int(collect.collect(work, tmp_path / "kept", lambda *_: None)["x"].counts.sum())
        == 3 * 6 * 8
    )


def test_a_tensor_whose_first_axis_is_no_batch_is_counted_whole(
    pictures: list[Path], tmp_path: Path
) -> None:
    given = model(1)
    given.graph.initializer.append(numpy_helper.from_array(np.array([12, 4]), "shape"))
    given.graph.node.append(node("Reshape", "y shape", "flat"))
    work = collect.CalibrationJob(given, ["flat"], pictures[:2], (4, 4), "detect", "k")
    assert int(collect.collect(work, tmp_path / "kept", lambda *_: None)["flat"].counts.sum()) == 96


def test_only_what_is_asked_for_is_counted(pictures: list[Path], tmp_path: Path) -> None:
    work = collect.CalibrationJob(model(1), ["s"], pictures[4:], (4, 4), "detect", "k")
    found = collect.collect(work, tmp_path / "kept", lambda *_: None)
    assert list(found) == ["s"]
    assert found["s"].amax == float(np.sqrt(np.float32(0.8)))


def test_the_graph_that_is_run_has_these_outputs_alone() -> None:
    given = model(1)
    changed = collect._with_outputs(given, ["s", "d"])
    assert [output.name for output in changed.graph.output] == ["s", "d"]
    assert {output.type.tensor_type.elem_type for output in changed.graph.output} == {
        TensorProto.FLOAT
    }
    assert [output.name for output in given.graph.output] == ["y"]
    assert changed.graph.node == given.graph.node


def test_images_are_fitted_as_the_task_wants_them(tmp_path: Path) -> None:
    """Twice as wide as high: to classify, the white middle is cut out; otherwise grey comes above
    and below.
    """
    import cv2

    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 255
    cv2.imwrite(str(tmp_path / "wide.png"), pixels)
    for task, amin in (("classify", 48), ("detect", 0)):
        work = collect.CalibrationJob(model(1), ["x"], [tmp_path / "wide.png"], (4, 4), task, "k")
        found = collect.collect(work, tmp_path / "kept", lambda *_: None)["x"]
        assert int(found.counts[2048:].sum() == 48) * 48 == amin


def test_a_session_is_named_and_shares_the_cores(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked, workers = collect.open_model, list[tuple[object, ...]](), list[int]()
    pool = collect.ThreadPoolExecutor
    monkeypatch.setattr(collect, "_WORKERS", 3)
    monkeypatch.setattr(collect, "threads_beside", lambda workers: 100 + workers)
    monkeypatch.setattr(
        collect, "open_model", lambda *given: asked.append(given[1:]) or real(given[0], "", 1)
    )
    monkeypatch.setattr(
        collect, "ThreadPoolExecutor", lambda count: workers.append(count) or pool(count)
    )
    work = collect.CalibrationJob(model(1), ["x"], pictures, (4, 4), "detect", "k")
    collect.collect(work, tmp_path / "kept", lambda *_: None)
    assert (asked, workers) == ([("the graph to calibrate", 103)], [3])


def test_which_image_of_a_batch_is_nan_is_said(pictures: list[Path], tmp_path: Path) -> None:
    """1 / x is infinite for the black picture alone, wherever it is in the batch."""
    given = model(3)
    given.graph.node.append(node("Reciprocal", "x", "r"))
    for order, name in (([1, 2, 0, 3, 4], "0.png"), ([1, 2, 3, 4, 0], "0.png")):
        work = collect.CalibrationJob(
            given, ["r"], [pictures[index] for index in order], (4, 4), "detect", "k"
        )
        with pytest.raises(DataError) as error:
            collect.collect(work, tmp_path / "kept", lambda *_: None)
        assert (
            str(error.value)
            == f"r is NaN or infinite on {tmp_path / name}. Remove the image, or repair the model"
        )


def test_a_stopped_run_keeps_whole_rounds_and_goes_on(
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers, one batch each a round: after two pictures all is kept, and the run that goes on
    begins with the third.
    """
    monkeypatch.setattr(collect, "_WORKERS", 2)
    monkeypatch.setattr(collect, "_BATCHES", 1)
    monkeypatch.setattr(collect, "_SAVE_EVERY_S", -1.0)
    kept, seen = tmp_path / "kept", list[int]()

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    work = collect.CalibrationJob(model(1), ["x"], pictures, (4, 4), "detect", "k")
    with pytest.raises(KeyboardInterrupt):
        collect.collect(work, kept, stop)
    assert state.images_done(kept, "k") == 2
    found = collect.collect(work, kept, lambda done, total: seen.append(done))
    assert seen == [3, 4, 5]
    assert int(found["x"].counts.sum()) == 5 * 48


def test_nothing_is_kept_before_its_time(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_WORKERS", 1)
    monkeypatch.setattr(collect, "_BATCHES", 1)
    saved: list[int] = []
    monkeypatch.setattr(state, "save", lambda kept, key, done, histograms: saved.append(done))
    clock = iter([0.0, 5.0, 10.0, 10.5, 10.5, 20.5, 20.6, 20.6])
    monkeypatch.setattr(collect, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    collect.collect(
        collect.CalibrationJob(model(1), ["x"], pictures, (4, 4), "detect", "k"),
        tmp_path / "kept",
        lambda *_: None,
    )
    assert saved == [3, 5]  # each more than 10 s after the one before
