"""Graphs that cannot work are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from enginery.errors import ModelError
from enginery.evaluation.validation import compare
from enginery.sources.export import export
from enginery.vision.images import list_images
from enginery.vision.tasks import TaskMetadata
from tests.inputs.common import TINY


def graph(edit: Callable[[onnx.ModelProto], object] = lambda model: None) -> onnx.ModelProto:
    """One convolution, which `edit` changes."""
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 2.0, 3.0])
    value = helper.make_tensor_value_info
    sizes = [1, 3, 64, 64]
    body = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["out"], "conv")],
        "graph",
        [value("image", TensorProto.FLOAT, sizes)],
        [value("out", TensorProto.FLOAT, [1, 1, 64, 64])],
        [kernel],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    edit(model)
    return model


def add_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def add_node(*arguments: Any, **more: Any) -> Callable[[onnx.ModelProto], object]:
    return lambda model: model.graph.node.append(helper.make_node(*arguments, **more))


def add_metadata(key: str, value: str) -> Callable[[onnx.ModelProto], object]:
    return lambda model: model.metadata_props.add(key=key, value=value)


def break_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].float_data[1] = float("nan")


def flatten_input(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[1:]
    model.graph.node[0].CopyFrom(helper.make_node("Identity", ["image"], ["out"]))
    del model.graph.output[0].type.tensor_type.shape.dim[1:]
    del model.graph.initializer[:]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            add_input,
            r"own\.onnx has 2 inputs \(image, mask\), and images are fed to a graph with one",
        ),
        (
            flatten_input,
            r"own\.onnx: its input image has the shape \[1\], not batch, 3, height, width",
        ),
        (lambda model: model.graph.output.pop(), r"own\.onnx .*output"),
        (break_weights, r"own\.onnx has weights that are NaN, in 1 tensors: kernel"),
        (
            add_node("", [], []),
            r"own\.onnx has operators that are not part of ONNX: an empty operator \(node without a name\)",
        ),
        (add_node("", [], [], name="last"), r"an empty operator \(node last\)"),
        (
            add_node("Fancy", ["out"], ["more"], domain="com.example"),
            r"com\.example\.Fancy \(node more\)",
        ),
        (
            add_metadata("names", "[" * 100_000),
            r"own\.onnx: its metadata `names`, `stride` or `kpt_shape` is not as",
        ),
        (add_metadata("names", "-" * 200_000 + "1"), r"own\.onnx: its metadata `names`"),
        (add_metadata("stride", "0"), r"own\.onnx: its metadata `names`, `stride`"),
    ],
    ids=[
        "inputs",
        "axis",
        "outputs",
        "nan",
        "nameless",
        "operator",
        "domain",
        "brackets",
        "minuses",
        "stride",
    ],
)
def test_graphs_that_cannot_work_are_refused_by_name(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], object], words: str
) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(graph().SerializeToString())
    export(path, TINY, tmp_path / "out.onnx")
    path.write_bytes(graph(edit).SerializeToString())
    with pytest.raises(ModelError, match=words):
        export(path, TINY, tmp_path / "out.onnx")


def test_an_original_that_gives_no_numbers_is_said_with_the_image(tmp_path: Path) -> None:
    from enginery.demo.dataset import write_dataset

    class Broken:
        size = (64, 64)
        begun = 0

        def begin(self, image: Any, pool: Any) -> Callable[[], list[Any]]:
            self.begun += 1
            value = np.inf if self.begun == 2 else 0
            return lambda: [np.full((1, 4 + 7, 84), value, np.float32)]

    write_dataset(tmp_path, range(3), 64)
    names = {index: str(index) for index in range(7)}
    second = list_images(tmp_path, "detect")[1]
    with pytest.raises(
        ModelError, match=f"the original itself gives NaN or infinite values for {second}"
    ):
        compare(
            Broken(), Broken(), tmp_path, TaskMetadata("detect", names), lambda done, total: None
        )
