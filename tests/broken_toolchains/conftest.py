"""A build whose folder holds nothing but the graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from enginery.toolchain.requests import BuildRequest
from tests.test_toolchain import graph


@pytest.fixture
def request_(tmp_path: Path) -> Iterator[BuildRequest]:
    """A build whose folder holds nothing but the graph, before and after."""
    (tmp_path / "work").mkdir()
    request = BuildRequest(
        "tensorrt", graph(tmp_path / "work" / "g.onnx"), tmp_path / "work" / "g.plan", "g"
    )
    yield request
    assert [path.name for path in request.plan.parent.iterdir()] == ["g.onnx"]
