"""How a child ends, and the error that its end becomes."""

from __future__ import annotations

import pytest

from enginery import errors
from enginery.errors import IntegrityError
from enginery.toolchain import child_errors as endings
from tests.exact.toolchain.common import PYTHON

REQUEST = {"do": "build", "runtime": "tensorrt", "plan": "a.plan", "onnx": "g.onnx"}
GRAPH = "The graph must be changed"


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (
            "toolchain",
            "ToolchainError",
            "/env/python: MESSAGE. Install tensorrt there, or name another toolchain",
        ),
        (
            "library",
            "ToolchainError",
            "/env/python: MESSAGE. Install the package with this library there",
        ),
        (
            "pycuda",
            "ToolchainError",
            "/env/python: NumPy and pycuda are needed to use a GPU: MESSAGE. Install numpy and pycuda there",
        ),
        (
            "driver",
            "ToolchainError",
            "/env/python: MESSAGE. Install NVIDIA's driver, or use the machine with the GPU",
        ),
        (
            "memory",
            "BuildError",
            "build with tensorrt: too little memory: MESSAGE. Free GPU memory, use smaller shapes, or change workspace_mib",
        ),
        (
            "parameter",
            "BuildError",
            "build with tensorrt: MESSAGE. Correct the target in params.yaml",
        ),
        (
            "data",
            "DataError",
            "build with tensorrt: MESSAGE. Add images, or make the batch smaller",
        ),
        (
            "gpu",
            "GpuError",
            "build with tensorrt: the GPU failed: MESSAGE. Look at nvidia-smi and the kernel's log, then run again",
        ),
        ("refit", "RefitError", "build with tensorrt: MESSAGE. Build it"),
        (
            "engine",
            "EngineError",
            "a.plan does not run here: MESSAGE. An engine runs on the GPU and with the TensorRT it was built for",
        ),
        (
            "file",
            "ToolchainError",
            "build with tensorrt: MESSAGE. Free some space or correct the path, then run again",
        ),
        ("parse", "BuildError", f"tensorrt cannot parse g.onnx: MESSAGE. {GRAPH}"),
        ("profile", "BuildError", f"tensorrt refused the profile of g.onnx: MESSAGE. {GRAPH}"),
        ("build", "BuildError", f"tensorrt could not build g.onnx: MESSAGE. {GRAPH}"),
        (
            "unheard of",
            "ToolchainError",
            "/env/python: MESSAGE. Install tensorrt there, or name another toolchain",
        ),
    ],
)
def test_each_refusal_is_an_error_of_its_kind(kind: str, error: str, words: str) -> None:
    found = endings.refusal(PYTHON, REQUEST, {"kind": kind, "message": "it says why"})
    assert type(found) is getattr(errors, error)
    assert str(found) == words.replace("MESSAGE", "it says why")


def test_a_damaged_plan_is_named_with_what_restores_it() -> None:
    found = endings.refusal(PYTHON, REQUEST, {"kind": "integrity", "message": "it says why"})
    assert type(found) is IntegrityError
    assert found.what == "a.plan: it says why; it was not loaded"
    assert "restore" in found.cure


def test_a_refusal_of_a_probe_has_no_plan() -> None:
    found = endings.refusal(
        PYTHON, {"do": "probe", "runtime": "tensorrt"}, {"kind": "integrity", "message": "m"}
    )
    assert str(found).startswith(": m; it was not loaded")
    found = endings.refusal(
        PYTHON, {"do": "probe", "runtime": "tensorrt"}, {"kind": "parse", "message": "m"}
    )
    assert str(found) == f"tensorrt cannot parse : m. {GRAPH}"


@pytest.mark.parametrize(
    ("do", "last", "code", "error", "words"),
    [
        (
            "build",
            (),
            3,
            "ChildCrashedError",
            "build with tensorrt: the child ended with exit code 3 without a result. Nothing else is lost; run again.",
        ),
        (
            "build",
            (),
            0,
            "ChildCrashedError",
            "build with tensorrt: the child ended with exit code 0 without a result. Nothing else is lost; run again.",
        ),
        (
            "probe",
            ("a", "b"),
            1,
            "ChildCrashedError",
            "probe with tensorrt: the child ended with exit code 1 without a result. Install TensorRT there again. Its last words: a | b",
        ),
        (
            "build",
            ("a",),
            -11,
            "ChildCrashedError",
            "build with tensorrt: the child was killed by SIGSEGV without a result. Nothing else is lost; run again. Its last words: a",
        ),
        (
            "build",
            (),
            -9,
            "ChildCrashedError",
            "build with tensorrt: the child was killed by SIGKILL (often a sign of too little memory) without a result. "
            "Nothing else is lost; run again.",
        ),
        (
            "build",
            (),
            None,
            "ChildTimeoutError",
            "build with tensorrt was stopped at its time limit of 2.5 s. Raise time_limit_s of the target.",
        ),
        (
            "probe",
            ("x",),
            None,
            "ChildTimeoutError",
            "probe with tensorrt was stopped at its time limit of 2.5 s. Is it on a slow disk? Its last words: x",
        ),
    ],
)
def test_a_child_without_a_result(
    do: str, last: tuple[str, ...], code: int | None, error: str, words: str
) -> None:
    found = endings.early_end(PYTHON, {"do": do, "runtime": "tensorrt"}, last, code, 2.5)
    assert type(found) is getattr(errors, error)
    assert str(found) == f"/env/python: {words}"


def test_a_child_that_was_killed_outright() -> None:
    found = endings.early_end(PYTHON, {"do": "build", "runtime": "tensorrt"}, (), -9, 2.5)
    assert type(found) is errors.ChildCrashedError
    for words in (
        "the child was killed by SIGKILL",
        "often a sign of too little memory",
        "run again",
    ):
        assert words in str(found)
