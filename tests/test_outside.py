"""A source and a runtime that another package brings: installed beside Enginery, named nowhere in
it.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from enginery.system.files import read_json
from tests.conftest import Checkout
from tests.test_own_steps import MODEL, one_engine

ENTRY_POINTS = """
[enginery.sources]
toy = toy_enginery:SOURCE
[enginery.runtimes]
toy_rt = toy_enginery:RUNTIME
"""
# A compressed ONNX, and TensorRT-RTX under another name.
PACKAGE = """
import zlib
from pathlib import Path

from enginery.runtimes.tensorrt_rtx import TensorRtRtx
from enginery.sources.onnx import OnnxFile
from enginery.system.files import temporary_folder


class ToyFile(OnnxFile):
    suffix, tools = ".toy", ("numpy",)

    def data(self, source):
        return {}

    def export(self, source, settings, out):
        with temporary_folder() as folder:
            graph = Path(folder) / "model.onnx"
            graph.write_bytes(zlib.decompress(source.read_bytes()))
            return super().export(graph, settings, out)


class ToyRuntime(TensorRtRtx):
    name, title = "toy_rt", "Toy"

    def mistakes(self, name, target, info):
        if target.compute_capability == "12.0":
            yield f"targets.{name}.compute_capability: a toy has none of 12.0"


SOURCE, RUNTIME = ToyFile(), ToyRuntime()
"""
RUNTIME = "import sys\nimport tensorrt_rtx\nsys.modules[__name__] = tensorrt_rtx\n"


def installed(folder: Path) -> Path:
    """The package as pip would leave it."""
    (folder / "toy-1.0.dist-info").mkdir(parents=True)
    (folder / "toy-1.0.dist-info/METADATA").write_text("Name: toy\nVersion: 1.0\n")
    (folder / "toy-1.0.dist-info/entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "toy_enginery.py").write_text(PACKAGE)
    (folder / "toy_rt.py").write_text(RUNTIME)
    return folder


def test_another_package_brings_a_source_and_a_runtime(built: Checkout, tmp_path: Path) -> None:
    graph = built.root / f"artifacts/models/{MODEL}/simplify/model.onnx"
    (built.root / "mine.toy").write_bytes(zlib.compress(graph.read_bytes()))

    def use_toys(params: dict) -> None:  # type: ignore[type-arg]
        one_engine(params)
        params["models"][MODEL]["source"] = "mine.toy"
        params["models"][MODEL].pop("opset", None)
        params["targets"]["toy"] = {"runtime": "toy_rt", "compute_capability": "8.6"}
        params["matrix"]["targets"] = ["toy"]

    built.change(use_toys)
    without = built.run("enginery", "build")
    assert without.returncode == 1
    assert "targets.toy.runtime: 'toy_rt': tensorrt or tensorrt_rtx is expected" in without.stderr

    site = str(installed(tmp_path / "site"))
    ended = built.run("enginery", "build", PYTHONPATH=site)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    manifest = read_json(built.root / f"artifacts/engines/{MODEL}/toy/fp32/manifest.json")
    assert manifest["runtime"] == "toy_rt"
    assert manifest["steps"]["export"]["recipe"]["tools"].keys() == {"numpy"}
    assert "toy" in built.run("enginery", "list", PYTHONPATH=site).stdout

    built.change(lambda params: params["targets"]["toy"].update(compute_capability="12.0"))
    refused = built.run("enginery", "build", PYTHONPATH=site)
    assert "targets.toy.compute_capability: a toy has none of 12.0" in refused.stderr
