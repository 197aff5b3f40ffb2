"""Toolchains: real builds in child processes, the same plan twice, and every
way it can end badly.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import (
    BuildError,
    ChildCrashedError,
    ChildTimeoutError,
    IntegrityError,
    ToolchainError,
)
from enginery.system.files import sha256
from enginery.toolchain.client import build, probe
from enginery.toolchain.plan import check_plan, read_header
from enginery.toolchain.process import PROGRAM
from enginery.toolchain.requests import BuildRequest

PYTHON = Path(sys.executable)


def silent(event: Mapping[str, Any]) -> None:
    """Take no notice of an event."""


def graph(path: Path, operator: str = "Relu", batch: int | str = 1, domain: str = "") -> Path:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, 16])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, 16, 16])
    weights = numpy_helper.from_array(
        np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32), "w"
    )
    convolution = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
    nodes = [convolution, helper.make_node(operator, ["c"], ["y"], name="last", domain=domain)]
    body = helper.make_graph(nodes, "g", [image], [out], [weights])
    onnx.save(
        helper.make_model(
            body,
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
            ir_version=8,
        ),
        path,
    )
    return path


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    return BuildRequest(
        "tensorrt_rtx",
        graph(tmp_path / "g.onnx"),
        tmp_path / "g.plan",
        "g",
        compute_capability="8.6",
    )


def test_tactic_sources_are_limited_and_unknown_ones_named(request_: BuildRequest) -> None:
    build(PYTHON, replace(request_, tactic_sources=("EDGE_MASK_CONVOLUTIONS",)), silent, 60)
    with pytest.raises(
        BuildError, match=r"tactic_sources: NONSENSE: unknown; this version has .*JIT_CONVOLUTIONS"
    ):
        build(PYTHON, replace(request_, tactic_sources=("NONSENSE",)), silent, 60)


def test_probe_says_what_it_is() -> None:
    info = probe(PYTHON, "tensorrt_rtx")
    assert info.version == "1.7.1.116"
    assert "strong typing" in info.features
    assert "weak typing" not in info.features
    assert {"8.6", "8.9", "12.0"} <= set(info.compute_capabilities)


def test_the_same_plan_in_two_processes(request_: BuildRequest) -> None:
    first = build(PYTHON, request_, silent, 60)
    again = build(PYTHON, replace(request_, plan=request_.plan.with_name("again.plan")), silent, 60)
    assert first.plan_sha256 == again.plan_sha256 == sha256(request_.plan)
    assert first.weights_sha256 is not None
    header = check_plan(request_.plan, first.plan_sha256, "8.6")
    assert header.compute_capabilities == ("8.6",)
    assert header.version == "1.7.1.116"


def test_no_capability_is_a_portable_plan(request_: BuildRequest) -> None:
    build(PYTHON, replace(request_, compute_capability=None), silent, 60)
    assert len(read_header(request_.plan).compute_capabilities) != 1


def test_dynamic_shapes_need_a_profile_that_fits(request_: BuildRequest) -> None:
    dynamic = replace(request_, onnx=graph(request_.onnx, batch="n"))
    shapes = {"min": [1, 3, 16, 16], "opt": [2, 3, 16, 16], "max": [4, 3, 16, 16]}
    assert build(PYTHON, replace(dynamic, profiles=({"x": shapes},)), silent, 60).plan_bytes > 0
    with pytest.raises(BuildError, match="profile"):
        build(
            PYTHON,
            replace(dynamic, profiles=({"x": {**shapes, "max": [1, 3, 16, 16]}},)),
            silent,
            60,
        )


def test_an_unsupported_operator_is_named(request_: BuildRequest) -> None:
    with pytest.raises(BuildError, match="Frobnicate"):
        build(
            PYTHON,
            replace(request_, onnx=graph(request_.onnx, "Frobnicate", domain="own")),
            silent,
            60,
        )
    assert not request_.plan.exists()


@pytest.mark.parametrize("content", [b"no onnx", b""])
def test_garbage_is_refused(request_: BuildRequest, content: bytes) -> None:
    request_.onnx.write_bytes(content)
    with pytest.raises(BuildError):
        build(PYTHON, request_, silent, 60)
    assert sorted(path.name for path in request_.plan.parent.iterdir()) == ["g.onnx"]


def kill_child(event: Mapping[str, Any]) -> None:
    """Kill this process' child program outright."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if str(PROGRAM) in child.cmdline():
                child.kill()


@pytest.mark.parametrize("phase", ["ONNX IR version", "Cloning network graph", "Detected 1 inputs"])
def test_a_killed_child_is_one_clear_error(request_: BuildRequest, phase: str) -> None:
    def kill(event: Mapping[str, Any]) -> None:
        if phase in json.dumps(event):
            kill_child(event)

    with pytest.raises(ChildCrashedError, match="killed by SIGKILL"):
        build(PYTHON, request_, kill, 60)
    assert not request_.plan.exists()
    assert build(PYTHON, request_, silent, 60).plan_bytes == request_.plan.stat().st_size


def test_a_child_past_its_time_limit_is_stopped(request_: BuildRequest) -> None:
    with pytest.raises(ChildTimeoutError, match=r"time limit of 0\.1 s"):
        build(PYTHON, request_, silent, 0.1)


def test_a_missing_interpreter_and_a_missing_tensorrt(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="cannot be started"):
        probe(tmp_path / "python", "tensorrt_rtx")
    with pytest.raises(ToolchainError, match="cannot import tensorrt"):
        probe(PYTHON, "tensorrt")


def test_a_full_disk_is_said(request_: BuildRequest) -> None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(ToolchainError, match="File too large"):
            build(PYTHON, request_, silent, 60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not request_.plan.exists()


def test_damaged_plans_are_refused(request_: BuildRequest) -> None:
    digest = build(PYTHON, request_, silent, 60).plan_sha256
    data = request_.plan.read_bytes()
    request_.plan.write_bytes(data[:-1])
    with pytest.raises(IntegrityError, match="its header says"):
        read_header(request_.plan)
    request_.plan.write_bytes(data[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match="a byte changed"):
        check_plan(request_.plan, digest, "8.6")
    request_.plan.write_bytes(b"")
    with pytest.raises(IntegrityError, match="is no TensorRT-RTX plan"):
        read_header(request_.plan)
    request_.plan.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"for compute capability 8\.6, not 8\.9"):
        check_plan(request_.plan, digest, "8.9")


LOGGED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import base, building, tensorrt_rtx as trt
class Out:
    def send(self, event, **fields): print(fields["severity"], fields["message"])
logger = base.make_logger(trt, Out())
for line in sys.argv[2:]: logger.log(trt.ILogger.WARNING if "tactic" in line else trt.ILogger.ERROR, line)
print(logger.reason())
print(logger.skipped, building.meaning(logger))
"""


def logged(*lines: str) -> list[str]:
    """What the child's logger makes of errors (of tactics: warnings), and the build of them."""
    command = [sys.executable, "-c", LOGGED, str(PROGRAM), *lines]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("lines", "means"),
    [
        (
            [
                "2: OutOfMemory (no further information)",
                *["10: Could not find any implementation for node a."] * 4,
            ],
            "0 memory",
        ),
        (
            [
                "Device memory is insufficient to use tactic 0x1.",
                "Skipping tactic 0x1 due to insufficient memory on requested size of 9",
                "10: Could not find any implementation for node a.",
            ],
            "1 memory",
        ),
        (
            [
                "Skipping tactic 0x1 due to exception Cuda failure",
                "10: Could not find any implementation for node a.",
            ],
            "0 build",
        ),
        (["Unable to load library: libnvinfer_lean.so"], "0 library"),
    ],
)
def test_what_tensorrt_says_of_memory_is_understood(lines: list[str], means: str) -> None:
    assert logged(*lines)[-1] == means


def test_what_8_6_says_of_each_of_its_own_timing_caches_is_no_error() -> None:
    lines = [
        "1: [myelinCache.h::deserializeFromBuffer::52] Error Code 1: Myelin (Myelin error from unknown graph)",
        "4: The timing cache will not be used!",
        "2: out of memory",
    ]
    assert logged(*lines) == [
        f"debug {lines[0]}",
        f"debug {lines[1]}",
        f"error {lines[2]}",
        lines[2],
        "0 memory",
    ]
