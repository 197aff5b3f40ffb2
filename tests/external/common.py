"""A graph with its weights beside it."""

from __future__ import annotations

from pathlib import Path

import onnx

from enginery.graphs import external
from enginery.graphs.inspect import read_graph
from enginery.sources.export import ExportSettings

SETTINGS = ExportSettings("detect")
MODEL = "yolov8n-shapes"
LIMIT = 10_000


def split(whole: Path, folder: Path, name: str = "model.onnx_data") -> Path:
    """The graph with its data in a file beside it; "" for a file for each tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "all_tensors_to_one_file": bool(name),
        "location": name or None,
        "size_threshold": 100,
    }
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(whole), folder / "own.onnx", save_as_external_data=True, **options)
    assert (folder / "own.onnx").stat().st_size < 0.02 * whole.stat().st_size
    return folder / "own.onnx"


def merged(graph: Path, out: Path) -> bytes:
    """A graph of two files as one."""
    external.write_graph(read_graph(graph), out)
    return out.read_bytes()


def remove(source: Path) -> str:
    source.with_name("model.onnx_data").unlink()
    return (
        "own.onnx: its data file {folder}/model.onnx_data cannot be read: No such file or directory"
    )
