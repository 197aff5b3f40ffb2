"""The state of a calibration that was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enginery.calibration import state
from enginery.errors import DataError
from tests.exact.calibration.common import filled, made


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
