"""Builds that the tests on a GPU ask for, and the last GPU of the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from enginery.gpu.inventory import Gpu, gpus
from enginery.toolchain.requests import BuildRequest
from tests.gpu.common import TACTICS
from tests.test_toolchain import graph


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    onnx_file = graph(tmp_path / "g.onnx")
    return BuildRequest(
        "tensorrt",
        onnx_file,
        tmp_path / "g.plan",
        "g",
        optimization_level=0,
        tactic_sources=TACTICS,
    )


@pytest.fixture
def dynamic(request_: BuildRequest) -> BuildRequest:
    names = ("min", "opt", "max")
    shapes = [
        {name: [size, 3, 16, 16] for name, size in zip(names, sizes, strict=True)}
        for sizes in ((1, 2, 4), (8, 8, 16))
    ]
    return replace(
        request_,
        onnx=graph(request_.onnx, batch="n"),
        profiles=tuple({"x": shape} for shape in shapes),
    )


@pytest.fixture
def last() -> Gpu:
    """The last of several GPUs, which nothing chooses by itself."""
    [*others, last] = gpus()
    if not others:
        pytest.skip("this machine has one GPU")
    return last
