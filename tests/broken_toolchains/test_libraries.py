"""Toolchains that are broken, each in its own way: one clear error of the right class, with the
cure, and no file left behind.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from enginery.errors import (
    ChildCrashedError,
    ChildTimeoutError,
    MissingInterpreterError,
    ToolchainError,
)
from enginery.gpu.inventory import gpus
from enginery.system.files import sha256
from enginery.toolchain.client import build, inspect, measure, probe, refit
from enginery.toolchain.process import Child
from enginery.toolchain.requests import (
    BuildRequest,
    InspectRequest,
    MeasureRequest,
    PointRequest,
    RefitRequest,
)
from tests.test_bindings import toolchain
from tests.test_toolchain import graph, silent

NO_PYCUDA = "NumPy and pycuda are needed to use a GPU: No module named 'pycuda'"
without_pycuda = pytest.mark.skipif(
    find_spec("pycuda") is not None, reason="this environment has pycuda"
)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bindings of TensorRT 10.16 with libraries that give nothing: as if it could not start."""
    return toolchain(tmp_path_factory.mktemp("ten"), "10.16.1.11")


@pytest.fixture(scope="module")
def _eleven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toolchain(tmp_path_factory.mktemp("eleven"), "11.4.0.106")


@pytest.fixture
def eleven(_eleven: Path) -> Iterator[Path]:
    """The bindings of TensorRT 11.4; what a test breaks beside them is mended after it."""
    kept = {
        path: path.read_bytes() for path in (library(_eleven), _eleven.with_name("tensorrt.py"))
    }
    yield _eleven
    for path, data in kept.items():
        path.write_bytes(data)


def library(python: Path) -> Path:
    return next(python.parent.glob("libnvinfer.so.*"))


@pytest.fixture
def request_(tmp_path: Path) -> Iterator[BuildRequest]:
    """A build whose folder holds nothing but the graph, before and after."""
    (tmp_path / "work").mkdir()
    request = BuildRequest(
        "tensorrt", graph(tmp_path / "work" / "g.onnx"), tmp_path / "work" / "g.plan", "g"
    )
    yield request
    assert [path.name for path in request.plan.parent.iterdir()] == ["g.onnx"]


def interpreter(folder: Path, *lines: str) -> Path:
    script = folder / "python"
    script.write_text("\n".join(("#!/bin/sh", *lines, "")))
    script.chmod(0o755)
    return script


def one_line(error: pytest.ExceptionInfo[ToolchainError], kind: type[ToolchainError]) -> str:
    assert type(error.value) is kind
    assert error.value.cure
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5])
def test_a_library_that_is_cut_off(eleven: Path, request_: BuildRequest, kept: float) -> None:
    """Where the loader does not see it, the kernel ends the process."""
    data = library(eleven).read_bytes()
    library(eleven).write_bytes(data[: int(len(data) * kept)])
    for ask in (lambda: probe(eleven, "tensorrt"), lambda: build(eleven, request_, silent, 60)):
        with pytest.raises(ToolchainError) as error:
            ask()
        if isinstance(error.value, ChildCrashedError):
            assert re.search(
                r"with tensorrt: the child was killed by SIG(BUS|SEGV) without a result",
                one_line(error, ChildCrashedError),
            )
        else:
            text = one_line(error, ToolchainError)
            assert f"{eleven}: cannot import tensorrt: {library(eleven)}: " in text
            assert "Install tensorrt there, or name another toolchain" in text
    library(eleven).write_bytes(data)
    assert probe(eleven, "tensorrt").version == "11.4.0.106"


def test_a_library_that_is_missing(eleven: Path, request_: BuildRequest) -> None:
    library(eleven).unlink()
    with pytest.raises(ToolchainError) as error:
        build(eleven, request_, silent, 60)
    text = one_line(error, ToolchainError)
    assert (
        f"{eleven}: cannot import tensorrt: libnvinfer.so.11: cannot open shared object file"
        in text
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("raise RuntimeError('made for another Python')", "RuntimeError: made for another Python"),
        ("", "has no attribute '__version__'"),
        ("import nowhere", "cannot import tensorrt: No module named 'nowhere'"),
    ],
)
def test_a_module_that_is_not_tensorrt(eleven: Path, module: str, words: str) -> None:
    eleven.with_name("tensorrt.py").write_text(module)
    with pytest.raises(ToolchainError) as error:
        probe(eleven, "tensorrt")
    assert words in one_line(error, ToolchainError if "import" in module else ChildCrashedError)


def test_a_library_that_a_package_loads_itself_is_cut_off(eleven: Path) -> None:
    """As the packages do that bring TensorRT's libraries along."""
    library(eleven).write_bytes(b"")
    eleven.with_name("tensorrt.py").write_text(
        f"import ctypes\nctypes.CDLL({str(library(eleven))!r})\n"
    )
    with pytest.raises(ToolchainError, match=r"cannot import tensorrt: .*Install tensorrt there"):
        probe(eleven, "tensorrt")


@without_pycuda
@pytest.mark.parametrize("do", ["measure", "inspect", "refit", "native calibration"])
def test_without_pycuda_it_is_said_what_is_missing(
    ten: Path, request_: BuildRequest, tmp_path: Path, do: str
) -> None:
    (tmp_path / "e.plan").write_bytes(b"plan")
    plan: dict[str, Any] = {
        "runtime": "tensorrt",
        "plan": tmp_path / "e.plan",
        "plan_sha256": sha256(tmp_path / "e.plan"),
    }
    point = PointRequest((1, 3, 16, 16), tmp_path / "images.npy", tmp_path)
    asks = {
        "measure": lambda: measure(ten, MeasureRequest(**plan, points=(point,)), silent, 60),
        "inspect": lambda: inspect(ten, InspectRequest(**plan, shape=point.shape), silent, 60),
        "refit": lambda: refit(
            ten, RefitRequest(**plan, weights=tmp_path / "w.npz", out=request_.plan), silent, 60
        ),
        "native calibration": lambda: build(ten, native(request_), silent, 60),
    }
    with pytest.raises(ToolchainError) as error:
        asks[do]()
    assert f"{ten}: {NO_PYCUDA}" in one_line(error, ToolchainError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.plan", "work"]


def native(request: BuildRequest) -> BuildRequest:
    folder = request.plan.parent
    return BuildRequest(
        "tensorrt",
        request.onnx,
        request.plan,
        "g",
        precision="int8",
        cache=folder / "c.cache",
        native_images=folder / "images.npy",
    )


@without_pycuda
def test_without_pycuda_the_cure_is_to_install_it(ten: Path, tmp_path: Path) -> None:
    (tmp_path / "e.plan").write_bytes(b"plan")
    with pytest.raises(ToolchainError) as error:
        measure(
            ten,
            MeasureRequest("tensorrt", tmp_path / "e.plan", sha256(tmp_path / "e.plan"), points=()),
            silent,
            60,
        )
    assert "pycuda" in error.value.cure


@without_pycuda
def test_a_probe_without_pycuda_is_no_error_but_says_so(ten: Path) -> None:
    found = probe(ten, "tensorrt")
    assert (found.gpus, found.no_gpu) == (
        (),
        "NumPy or pycuda does not work: No module named 'pycuda'",
    )


@pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("pycuda", "blind"),
    [
        ("", False),
        ("raise ImportError('libcuda.so.1: cannot open shared object file')", False),
        ("import nowhere", False),
    ],
)
def test_a_probe_tells_a_machine_without_a_gpu_from_a_broken_pycuda(
    tmp_path: Path, pycuda: str, blind: bool
) -> None:
    driver = "class Error(Exception): pass\ndef init(): raise Error('no CUDA-capable device is detected')\n"
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda/__init__.py").write_text("")
    (tmp_path / "pycuda/driver.py").write_text(f"{driver}{pycuda}\n")
    found = probe(
        interpreter(tmp_path, f'PYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"'),
        "tensorrt_rtx",
    )
    assert (found.gpus, found.blind) == ((), blind)
    assert found.no_gpu


@pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
def test_tensorrt_that_does_not_start(ten: Path, request_: BuildRequest) -> None:
    with pytest.raises(ToolchainError) as error:
        build(ten, request_, silent, 60)
    text = one_line(error, ToolchainError)
    assert f"{ten}: TensorRT does not start: " in text
    assert "Install NVIDIA's driver, or use the machine with the GPU" in text


@pytest.mark.parametrize("says", ["garbage", r"Welcome to \377\376", '{"event": ', "\\033[31mred"])
def test_an_interpreter_that_prints_garbage(
    request_: BuildRequest, tmp_path: Path, says: str
) -> None:
    python = interpreter(tmp_path, f"printf '{says}\\n'")
    for ask in (lambda: probe(python, "tensorrt"), lambda: build(python, request_, silent, 60)):
        with pytest.raises(ChildCrashedError) as error:
            ask()
        text = one_line(error, ChildCrashedError)
        assert "with tensorrt: the child ended with exit code 0 without a result" in text
        assert "Its last words: " in text


@pytest.mark.parametrize("says", ["3", "null", "[]", '"hello"', '{"a": 1}', '{"event": "log"}'])
def test_an_interpreter_that_prints_json_of_its_own(
    request_: BuildRequest, tmp_path: Path, says: str
) -> None:
    with pytest.raises(ChildCrashedError, match="without a result"):
        build(interpreter(tmp_path, f"printf '%s\\n' '{says}'"), request_, silent, 60)


def test_what_an_interpreter_prints_before_its_work_does_no_harm(tmp_path: Path) -> None:
    python = interpreter(
        tmp_path,
        "echo Activating the environment",
        "echo and this >&2",
        f'exec "{sys.executable}" "$@"',
    )
    assert probe(python, "tensorrt_rtx").version == "1.7.1.116"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["exit 0"], "ended with exit code 0"),
        (["echo no such thing >&2", "exit 3"], "ended with exit code 3"),
        (["kill -ABRT $$"], "was killed by SIGABRT"),
        (["kill -KILL $$"], "was killed by SIGKILL (often a sign of too little memory)"),
    ],
)
def test_an_interpreter_that_exits_at_once(
    request_: BuildRequest, tmp_path: Path, lines: list[str], words: str
) -> None:
    python = interpreter(tmp_path, *lines)
    big: Mapping[str, Any] = {
        "do": "probe",
        "runtime": "tensorrt",
        "gpu": None,
        "more": "x" * (1 << 20),
    }  # more than a pipe holds
    for ask in (
        lambda: build(python, request_, silent, 60),
        lambda: Child(python, big, silent).result(60),
    ):
        with pytest.raises(ChildCrashedError) as error:
            ask()
        text = one_line(error, ChildCrashedError)
        assert words in text
        assert ("no such thing" in text) == (len(lines) > 1)


def test_an_interpreter_that_sleeps_is_stopped_with_all_it_started(
    request_: BuildRequest, tmp_path: Path
) -> None:
    python = interpreter(
        tmp_path, "sleep 300 &", f'echo $! $$ > "{tmp_path}/pids"', "echo busy >&2", "sleep 300"
    )
    began = time.monotonic()
    with pytest.raises(ChildTimeoutError) as error:
        build(python, request_, silent, 0.5)
    assert 0.5 <= time.monotonic() - began < 20
    text = one_line(error, ChildTimeoutError)
    assert (
        "build with tensorrt was stopped at its time limit of 0.5 s. Raise time_limit_s of the target"
        in text
    )
    assert "Its last words: busy" in text
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert [
        process
        for process in psutil.wait_procs(left, 5)[1]
        if process.status() != psutil.STATUS_ZOMBIE
    ] == []


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0, "No such file or directory"),
        ("exit 0\n", 0o755, "Exec format error"),
        ("#!/bin/sh\n", 0o644, "Permission denied"),
        ("#!/nowhere/sh\n", 0o755, "No such file or directory"),
        ("", 0o755, "Exec format error"),
    ],
)
def test_an_interpreter_that_cannot_be_started(
    request_: BuildRequest, tmp_path: Path, content: str | None, mode: int, reason: str
) -> None:
    python = tmp_path / "python"
    if content is not None:
        python.write_text(content)
        python.chmod(mode)
    with pytest.raises(ToolchainError) as error:
        build(python, request_, silent, 60)
    text = one_line(error, MissingInterpreterError if content is None else ToolchainError)
    assert f"toolchain interpreter {python} cannot be started: {reason}" in text
    assert "Correct its path under toolchains in params.yaml" in text
