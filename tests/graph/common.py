"""Edits of params.yaml and dvc.yaml, and the graph that DVC reads for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from enginery.pipeline.graph import Graph, read_graph
from enginery.pipeline.matrix import write_matrix
from enginery.pipeline.repository import open_repository
from enginery.project.load import load_spec

MODEL, OTHER = "yolov8n-shapes", "other"
Edit = Callable[[dict[str, Any]], None]


def change(name: str, edit: Edit) -> None:
    """Edit a YAML file."""
    content = yaml.safe_load(Path(name).read_text())
    edit(content)
    Path(name).write_text(yaml.safe_dump(content, sort_keys=False))


def add(**stages: Any) -> None:
    """Stages of the team's own."""
    change("dvc.yaml", lambda content: content["stages"].update(stages))


def dvcs() -> Graph:
    """The graph that DVC reads for params.yaml as it is."""
    write_matrix(load_spec())
    repository = open_repository(Path())
    try:
        return read_graph(repository)
    finally:
        repository.close()


def another_model(**own: Any) -> Edit:
    """A second model: an ONNX with what it says of its own."""

    def edit(params: dict[str, Any]) -> None:
        params["models"][OTHER] = {"source": "o.onnx", "validation": "data/o", **own}
        params["matrix"]["models"].append(OTHER)
        params["int8"][OTHER] = {"calibration": "o.cache", "rule": "none"}
        if "int8" not in own.get("precisions", ["int8"]):
            del params["int8"][OTHER]

    return edit


def without_int8(params: dict[str, Any]) -> None:
    params["matrix"]["precisions"] = ["fp32", "fp16"]
    params["int8"] = {}


def with_toolchains(params: dict[str, Any]) -> None:
    params["toolchains"] = {"trt10": {"python": "ten"}, "trt8-6": {"python": "eight"}}


def nothing(params: dict[str, Any]) -> None:
    pass
