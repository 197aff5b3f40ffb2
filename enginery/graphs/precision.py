"""The graph in the precision asked for.

Strongly typed runtimes take precision from the graph: fp16 is cast here, not at the builder.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from enginery.errors import ModelError
from enginery.graphs.external import write_graph
from enginery.graphs.inspect import KEPT, has_own_quantization, read_graph, strip_metadata
from enginery.graphs.tensors import hold, place_of, values

HALF_SCALES_OPSET, _HALF_SCALES_IR = 19, 10
_CHUNK = 1 << 22  # weights that are cast at a time


def write_fp32(source: Path, out: Path) -> dict[str, Any]:
    """The graph as it is."""
    write_typed(read_graph(source), out)
    return {"casts": 0}


def write_fp16(source: Path, out: Path, fp32_layers: Collection[str] = ()) -> dict[str, Any]:
    """Weights and activations in fp16; inputs, outputs and the layers of these names stay float32.

    Raises:
        ModelError: the graph cannot be converted.
    """
    model = to_fp16(read_graph(source), source.as_posix(), fp32_layers)
    write_typed(model, out)
    return {"casts": sum(node.op_type == "Cast" for node in model.graph.node)}


def to_fp16(
    model: onnx.ModelProto, what: str, fp32_layers: Collection[str] = ()
) -> onnx.ModelProto:
    """A float32 graph with its weights and activations in fp16; inputs, outputs and the layers of
    these names stay float32, int8 weights stay int8.

    Raises:
        ModelError: the graph, which errors call `what`, cannot be converted.
    """
    from onnxconverter_common.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    float_only = [
        kind for kind in DEFAULT_OP_BLOCK_LIST if kind != "Resize"
    ]  # a Resize in float32 would cost two casts each
    on_disk = {
        tensor.name: values(tensor) for tensor in model.graph.initializer if place_of(tensor)
    }
    try:
        _separate_outputs(model.graph)
        model = onnx.shape_inference.infer_shapes(_with_half_scales(model))
        own_casts = {node.name for node in model.graph.node if node.op_type == "Cast"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of each weight below fp16's smallest number
            model = convert_float_to_float16(
                model,
                keep_io_types=True,
                op_block_list=float_only,
                node_block_list=list(fp32_layers),
            )
            _cast_weights(model, on_disk)
    except Exception as error:
        raise ModelError(
            f"{what} cannot be cast to fp16: {' '.join(str(error).split())[:300]}",
            "Build it in fp32",
        ) from None
    _cast_to_half(model, own_casts)
    _keep_resize_factors(model)
    return model


def _separate_outputs(graph: onnx.GraphProto) -> None:
    """Give each output that nodes read, too, a tensor of its own: the output stays float32, and
    what the nodes read does not.
    """
    read = {name for node in graph.node for name in node.input}
    for output in graph.output:
        if output.name not in read:
            continue
        inner = f"{output.name}_inner"
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == output.name else name for name in names]
        graph.node.append(
            onnx.helper.make_node("Identity", [inner], [output.name], f"{output.name}_identity")
        )


def _with_half_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """Q/DQ nodes take fp16 scales from opset 19 on."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= HALF_SCALES_OPSET or not has_own_quantization(model.graph):
        return model
    kept = list(model.metadata_props)
    model = onnx.version_converter.convert_version(model, HALF_SCALES_OPSET)
    model.ir_version = max(model.ir_version, _HALF_SCALES_IR)
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return model


def _cast_weights(model: onnx.ModelProto, on_disk: Mapping[str, NDArray[Any]]) -> None:
    """Of weights that lie on the disk the converter changed the type alone; their values are cast
    as it casts others.
    """
    from onnxconverter_common.float16 import convert_np_to_float16

    for tensor in model.graph.initializer:
        if (
            tensor.data_type == TensorProto.FLOAT16
            and tensor.name in on_disk
            and on_disk[tensor.name].dtype == np.float32
        ):
            single = on_disk[tensor.name].reshape(-1)
            cast = np.empty(single.size, np.float16)
            for start in range(0, single.size, _CHUNK):
                cast[start : start + _CHUNK] = convert_np_to_float16(single[start : start + _CHUNK])
            hold(tensor, cast.tobytes())


def _cast_to_half(model: onnx.ModelProto, own_casts: Container[str]) -> None:
    """The converter leaves the graph's own Casts to float32, where everything around them is fp16
    now.
    """
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.name in own_casts and not outputs & set(node.output):
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16


def _keep_resize_factors(model: onnx.ModelProto) -> None:
    """Resize takes data of any type, but its region and its factors in float32 only (the region is
    optional).
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    weights |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant"
    }
    for node in model.graph.node:
        for name in node.input[1:3] if node.op_type == "Resize" else ():
            if name in weights and weights[name].data_type == TensorProto.FLOAT16:
                exact = numpy_helper.to_array(weights[name]).astype(np.float32)
                weights[name].CopyFrom(numpy_helper.from_array(exact, weights[name].name))


def write_typed(model: onnx.ModelProto, out: Path) -> None:
    """Write a checked graph with the metadata that later steps read, whole or not at all."""
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key in KEPT}
    # Intermediate shapes were inferred for the types before.
    del model.graph.value_info[:]
    write_graph(strip_metadata(model, kept), out, lambda partial: read_graph(partial, out))
