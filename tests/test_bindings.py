"""Every call that the child program makes, held against the real bindings of TensorRT 10.16 and
11.4.

Their libraries cannot be had from the package index. The bindings load with stand-ins for the
libraries. For 11.4 these forward to TensorRT-RTX's, so that it really parses and builds.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from enginery.system.files import sha256
from enginery.toolchain.client import build, probe
from enginery.toolchain.process import PROGRAM
from enginery.toolchain.requests import BuildRequest
from tests.test_toolchain import graph

ENTRIES = [
    "createInferBuilder_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
]
CLASSES = {  # what the child's variables are
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "layer": "ILayer",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "error": "ParserError",
    "cache": "ITimingCache",
    "merged": "ITimingCache",
    "refitter": "Refitter",
    "inspector": "EngineInspector",
}
OF_OTHERS = {"error.strerror", "error.filename", "context.push", "context.detach"}
WEAK = {
    "trt.BuilderFlag.FP16",
    "trt.BuilderFlag.INT8",
    "trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS",
    "trt.IInt8EntropyCalibrator2",
    "trt.IInt8EntropyCalibrator2.__init__",
    "IBuilderConfig.int8_calibrator",
    "ILayer.precision",
    "Refitter.get_tensors_with_dynamic_range",
    "Refitter.set_dynamic_range",
}
ONLY_RTX = {
    "trt.ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}
EARLIER = {"trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "ICudaEngine.device_memory_size"}


def calls() -> set[str]:
    """`trt.X.Y` and `Class.member` for all that the child program touches."""
    found = set()
    for source in PROGRAM.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Attribute):
                text = ast.unparse(node).removeprefix("self.")
                first, _, rest = text.partition(".")
                if not rest or "(" in text or text in OF_OTHERS:
                    continue
                if first == "trt":
                    found.add(text)
                elif first in CLASSES and "." not in rest:
                    found.add(f"{CLASSES[first]}.{rest}")
    return found


def toolchain(folder: Path, version: str) -> Path:
    """An interpreter with the bindings of a version and stand-ins for its libraries."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc here to make the stand-ins with")
    major = version.split(".")[0]
    packages = [f"tensorrt-cu13-bindings=={version}"]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--target",
        str(folder),
    ]
    subprocess.run([*pip, *packages], check=True)
    libraries = sorted(
        (Path(sys.prefix) / "lib").glob("python*/site-packages/tensorrt_rtx_libs/lib*.so.1")
    )
    forwarded = list(map(str, libraries)) if major == "11" else []
    own = ENTRIES[-1:] if forwarded else ENTRIES
    (folder / "empty.c").write_text(
        "".join(f"void *{name}(void) {{ return 0; }}\n" for name in own)
    )
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = folder / f"lib{name}.so.{major}"
        link = [f"-Wl,-soname,{library.name}", "-Wl,--no-as-needed", *forwarded]
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-o", str(library), str(folder / "empty.c"), *link],
            check=True,
            timeout=60,
        )
    (folder / "tensorrt.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )
    paths = ":".join([str(folder), *{str(library.parent) for library in libraries}])
    script = folder / "python"
    script.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH="{paths}" PYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n'
    )
    script.chmod(0o755)
    return script


def missing(python: Path) -> set[str]:
    """Which of the child's calls these bindings do not have."""
    code = (
        "import json, operator, sys, tensorrt as trt\n"
        "def has(name):\n"
        "    try: operator.attrgetter(name[4:] if name.startswith('trt.') else name)(trt); return True\n"
        "    except AttributeError: return False\n"
        "print(json.dumps([name for name in json.loads(sys.argv[1]) if not has(name)]))"
    )
    result = subprocess.run(
        [str(python), "-c", code, json.dumps(sorted(calls()))],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_the_collector_sees_the_calls() -> None:
    assert calls() >= WEAK | ONLY_RTX | EARLIER
    assert calls() >= {
        "Builder.build_serialized_network",
        "IExecutionContext.execute_async_v3",
        "trt.TensorIOMode.INPUT",
    }


def test_tensorrt_10_has_every_call_but_those_of_tensorrt_rtx(tmp_path: Path) -> None:
    assert missing(toolchain(tmp_path, "10.16.1.11")) == ONLY_RTX


def test_tensorrt_11_has_every_call_but_the_weakly_typed_and_builds(tmp_path: Path) -> None:
    python = toolchain(tmp_path, "11.4.0.106")
    assert missing(python) == ONLY_RTX | WEAK | EARLIER
    info = probe(python, "tensorrt")
    assert (
        info.version.split(".")[0],
        "weak typing" in info.features,
        "calibrators" in info.features,
    ) == ("11", False, False)
    request = BuildRequest(
        "tensorrt",
        graph(tmp_path / "g.onnx"),
        tmp_path / "g.plan",
        "g",
        timing_cache=tmp_path / "t.timing",
    )
    result = build(python, request, lambda event: None, 120)
    assert sha256(tmp_path / "g.plan") == result.plan_sha256
