"""Timing caches: merged, left out where they are foreign, and saved whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import caches, timing
from tests.recorder.flags import BuilderFlag


@pytest.mark.parametrize(
    ("contents", "merged", "left_out"),
    [
        ((), b"", []),
        ((b"a",), b"a", []),
        ((b"a", b"b", b"c"), b"a+b+c", []),
        ((b"", b"a"), b"a", [0]),
        ((b"other", b"a"), b"a", [0]),
        ((b"a", b"other", b"c"), b"a+c", [1]),
        ((b"other",), b"", [0]),
        ((b"a", b"", b"c"), b"a+c", [1]),
    ],
)
def test_timing_caches_are_merged(
    tmp_path: Path, out: Out, contents: tuple[bytes, ...], merged: bytes, left_out: list[int]
) -> None:
    trt = tensorrt()
    config = trt.Builder(None).create_builder_config()
    paths = caches(tmp_path, *contents)
    timing.load(trt, config, paths, out)
    assert config._cache._data == merged
    assert BuilderFlag.EDITABLE_TIMING_CACHE in config._flags
    assert out.sent == [
        {
            "event": "log",
            "severity": "warning",
            "message": f"{paths[number]}: not of this TensorRT and GPU, left out",
        }
        for number in left_out
    ]


def test_a_version_without_editable_caches(out: Out) -> None:
    trt = tensorrt(strong=True)
    config = trt.Builder(None).create_builder_config()
    timing.load(trt, config, [], out)
    assert config._flags == {BuilderFlag.TF32}
    assert config._cache._data == b""


def test_a_timing_cache_is_saved_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr(timing, "write_whole", lambda *given: written.append(given))
    config = tensorrt().Builder(None).create_builder_config()
    config.set_timing_cache(config.create_timing_cache(b"measured"), False)
    timing.save(config, "a.timing")
    assert written == [("a.timing", b"measured")]
    assert type(written[0][1]) is bytes
