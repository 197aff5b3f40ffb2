"""New weights and ranges in a plan, and those that do not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import base, on_gpu, refitting, refused
from tests.recorder.building import ILogger


def weights(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "w.npz", **{f"weights/{name}": value for name, value in arrays.items()})
    return str(folder / "w.npz")


def refit(out: Out, tmp_path: Path, trt: Any = None, **changed: Any) -> Any:
    trt = trt or tensorrt()
    asked = on_gpu(**{"out": str(tmp_path / "new"), "prefix": "weights/", "ranges": {}, **changed})
    logger = base.make_logger(trt, out)
    refitting.refit(trt, logger, asked, out)
    return trt


def test_weights_are_replaced(out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5.0, 7.5])
    monkeypatch.setattr(refitting, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(
        refitting, "full_version", lambda runtime, trt: f"{runtime} {trt.__version__}"
    )
    a = np.arange(6, dtype=np.float32).reshape(2, 3).T
    trt = refit(out, tmp_path, weights=weights(tmp_path, a=a, b=np.ones(2, np.float16)))
    [refitter] = trt.made["Refitter"]
    assert {name: given.values.tolist() for name, given in refitter._set.items()} == {
        "a": [0, 3, 1, 4, 2, 5],
        "b": [1, 1],
    }
    assert {name: given.values.dtype for name, given in refitter._set.items()} == {
        "a": np.float32,
        "b": np.float16,
    }
    assert refitter._ranges == {}
    assert refitter._logger is trt.made["Runtime"][0]._logger is not None
    assert (refitter._engine, trt.made["loaded"]) == (trt.made["ICudaEngine"][0], [b"data"])
    assert (tmp_path / "new").read_bytes() == b"refitted"
    assert out.sent == [
        {
            "event": "result",
            "plan_sha256": hashlib.sha256(b"refitted").hexdigest(),
            "plan_bytes": 8,
            "seconds": 2.5,
            "runtime_version": "tensorrt 10.16.1",
        }
    ]


def test_ranges_are_replaced_on_both_sides_of_zero(out: Out, tmp_path: Path) -> None:
    given = weights(tmp_path, a=np.ones(1), b=np.ones(1))
    trt = refit(out, tmp_path, weights=given, ranges={"t": 2.5, "u": 1.0, "more": 3.0})
    assert trt.made["Refitter"][0]._ranges == {"t": (-2.5, 2.5), "u": (-1.0, 1.0)}
    with refused("refit", "there is no range for u"):
        refit(out, tmp_path, weights=given, ranges={"t": 2.5})


def test_a_plan_without_ranges(out: Out, tmp_path: Path) -> None:
    refitter = SimpleNamespace(get_tensors_with_dynamic_range=list)
    with refused("refit", "this plan's INT8 ranges cannot be replaced"):
        refitting.set_ranges(refitter, {"t": 1.0})


def test_weights_that_do_not_fit(out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("refit", "the weights c do not fit: the plan has none of this name"):
        refit(out, tmp_path, weights=weights(tmp_path, a=np.ones(1), c=np.ones(1)))
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    logger.log(ILogger.ERROR, "count mismatch")
    asked = on_gpu(
        weights=weights(tmp_path, c=np.ones(1)), prefix="weights/", ranges={}, out="none"
    )
    with refused("refit", "the weights c do not fit: count mismatch"):
        refitting.refit(trt, logger, asked, out)
    with refused("refit", "still needed: b"):
        refit(out, tmp_path, weights=weights(tmp_path, a=np.ones(1)))
    monkeypatch.setattr(
        "tests.child.Refitter.get_missing_weights", lambda self: ["a", "b", "c", "d"]
    )
    with refused("refit", "still needed: a, b, c"):
        refit(out, tmp_path, weights=weights(tmp_path, a=np.ones(1)))
    assert not (tmp_path / "new").exists()


def test_a_refit_that_fails(out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.child.Refitter.refit_cuda_engine", lambda self: False)
    given = weights(tmp_path, a=np.ones(1), b=np.ones(1))
    with refused("refit", "TensorRT gave no reason"):
        refit(out, tmp_path, weights=given)
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    logger.log(ILogger.ERROR, "it failed")
    with refused("refit", "it failed"):
        refitting.refit(
            trt, logger, on_gpu(weights=given, prefix="weights/", ranges={}, out="none"), out
        )
