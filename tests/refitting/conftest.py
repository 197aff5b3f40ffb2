"""A graph of one convolution."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.test_toolchain import graph


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    return onnx.load(graph(tmp_path / "g.onnx"))
