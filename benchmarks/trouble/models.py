"""Models that are no good, each in its own way: ONNX graphs, and Ultralytics checkpoints."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Edit = Callable[[onnx.ModelProto], object]
HUGE = 1 << 40
DEEP = 100_000


def edited(edit: Edit) -> Callable[[Path], None]:
    """A graph with one thing changed."""

    def damage(path: Path) -> None:
        model = onnx.load(path)
        edit(model)
        data = model.SerializeToString()
        path.unlink()
        path.write_bytes(data)

    return damage


def newer_opset(model: onnx.ModelProto) -> None:
    """An opset that nobody knows."""
    model.opset_import[0].version = 99


def float64_input(model: onnx.ModelProto) -> None:
    """An input of doubles, cast for the rest of the graph."""
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    _behind_input(
        model, helper.make_node("Cast", [], ["as_float"], "as_float", to=TensorProto.FLOAT)
    )


def _behind_input(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes behind the input: the first reads it, the last feeds what read it before."""
    name = model.graph.input[0].name
    for node in model.graph.node:
        for index, used in enumerate(node.input):
            if used == name:
                node.input[index] = nodes[-1].output[0]
    nodes[0].input.insert(0, name)
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def unknown_operator(model: onnx.ModelProto) -> None:
    """An operator that ONNX does not have."""
    _behind_input(model, helper.make_node("Fancy", [], ["fancy"], "my_fancy"))


def foreign_operator(model: onnx.ModelProto) -> None:
    """An operator of somebody's own domain."""
    _behind_input(model, helper.make_node("Fancy", [], ["fancy"], "my_fancy", domain="com.example"))
    model.opset_import.add(domain="com.example", version=1)


def nameless_operator(model: onnx.ModelProto) -> None:
    """A node whose operator has no name."""
    _behind_input(model, helper.make_node("", [], ["nameless"], "my_nameless"))


def second_input(model: onnx.ModelProto) -> None:
    """A scale that is given at run time."""
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    _behind_input(model, helper.make_node("Mul", ["scale"], ["scaled"], "scaled"))


def flat_input(model: onnx.ModelProto) -> None:
    """An input of one axis that is reshaped to an image."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    sizes = [dim.dim_value for dim in dims]
    del dims[:]
    dims.add().dim_value = int(np.prod(sizes))
    model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), "sizes"))
    _behind_input(model, helper.make_node("Reshape", ["sizes"], ["image"], "image"))


def _weights_with(value: float) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        weights = next(one for one in model.graph.initializer if len(one.dims) == 4)
        values = numpy_helper.to_array(weights).copy()
        values.flat[0] = value
        weights.CopyFrom(numpy_helper.from_array(values, weights.name))

    return edit


nan_weights, infinite_weights = _weights_with(float("nan")), _weights_with(float("inf"))


def loop(turns: int) -> Edit:
    """A Loop that adds 0 so many times."""

    def edit(model: onnx.ModelProto) -> None:
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["again"]),
                helper.make_node("Add", ["x", "zero"], ["y"]),
            ],
            "body",
            [
                value("turn", TensorProto.INT64, []),
                value("go", TensorProto.BOOL, []),
                value("x", TensorProto.FLOAT, None),
            ],
            [value("again", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.zeros(1, np.float32), "zero")],
        )
        for name, array in (("turns", np.array(turns, np.int64)), ("true", np.array(True))):
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        node = helper.make_node("Loop", ["turns", "true"], ["looped"], "looped", body=body)
        _behind_input(model, node)
        model.graph.node[0].input[:] = ["turns", "true", model.graph.input[0].name]

    return edit


def metadata(key: str, value: str) -> Edit:
    """An entry of the graph's metadata."""

    def edit(model: onnx.ModelProto) -> None:
        rest = {entry.key: entry.value for entry in model.metadata_props} | {key: value}
        del model.metadata_props[:]
        for name, text in rest.items():
            model.metadata_props.add(key=name, value=text)

    return edit


def nested(model: onnx.ModelProto) -> None:
    """Class names within brackets within brackets."""
    metadata("names", "[" * DEEP + "]" * DEEP)(model)


def without_outputs(model: onnx.ModelProto) -> None:
    """A graph that gives nothing."""
    del model.graph.output[:]


def in_circles(model: onnx.ModelProto) -> None:
    """A node that needs what is made of its own output."""
    nodes = list(model.graph.node)
    nodes[3].input[0] = nodes[-1].output[0]


def huge_weights(model: onnx.ModelProto) -> None:
    """A weight that says to be of a terabyte, and has no data."""
    weights = next(one for one in model.graph.initializer if len(one.dims) == 4)
    weights.dims[0] = HUGE


def external(path: Path) -> None:
    """Weights in a file beside the graph."""
    model = onnx.load(path)
    path.unlink()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def external_missing(path: Path) -> None:
    """Weights in a file that is not there."""
    external(path)
    path.with_name("weights.bin").unlink()


def external_cut(path: Path) -> None:
    """Weights in a file that is too short."""
    external(path)
    weights = path.with_name("weights.bin")
    weights.write_bytes(weights.read_bytes()[:1000])


def external_outside(path: Path) -> None:
    """Weights that are another folder's."""
    model = onnx.load(path)
    external(path)
    path.with_name("weights.bin").rename(path.parents[1] / "weights.bin")
    linked = onnx.load(path, load_external_data=False)
    for tensor in linked.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(linked.SerializeToString())
    del model


class _Command:
    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.line,)


def commanding_weights(line: str) -> bytes:
    """A checkpoint as PyTorch writes it, whose pickle runs a command line when it is read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"model": _Command(line)}, protocol=2))
        archive.writestr("model/version", "3\n")
        archive.writestr("model/byteorder", "little")
    return out.getvalue()


def networkless_weights() -> bytes:
    """A checkpoint of tensors only, without a network."""
    import torch

    out = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, out)
    return out.getvalue()
