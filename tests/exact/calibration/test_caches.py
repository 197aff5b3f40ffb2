"""Calibration caches, byte by byte."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from enginery.calibration import cache
from enginery.errors import DataError
from tests.conftest import ROOT


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
