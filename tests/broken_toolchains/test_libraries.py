"""TensorRT and pycuda that are cut off, missing or something else."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import ChildCrashedError, ToolchainError
from enginery.gpu.inventory import gpus
from enginery.system.files import sha256
from enginery.toolchain.client import build, inspect, measure, probe, refit
from enginery.toolchain.requests import (
    BuildRequest,
    InspectRequest,
    MeasureRequest,
    PointRequest,
    RefitRequest,
)
from tests.broken_toolchains.common import interpreter, one_line
from tests.test_bindings import toolchain
from tests.test_toolchain import silent

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
