"""The tensors of an ONNX graph: all of them, their sizes, and their bytes wherever they lie.

A tensor holds its bytes itself, or says where they lie: in this program by a file's absolute path.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_CHUNK = 1 << 24
_PER_BYTE = {  # values of the types that are smaller than one
    TensorProto.INT4: 2,
    TensorProto.UINT4: 2,
    TensorProto.FLOAT4E2M1: 2,
    TensorProto.INT2: 4,
    TensorProto.UINT2: 4,
}


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie."""

    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def digest(self) -> bytes:
        """The digest of the bytes."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.digest()

    def chunks(self) -> Iterator[bytes]:
        """The bytes, not all at once."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            left = self.size
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk


def place_of(tensor: TensorProto) -> Place | None:
    """Where the bytes of a weight of a large graph lie; None where the tensor holds them."""
    if not is_external(tensor):
        return None
    fields = {entry.key: entry.value for entry in tensor.external_data}
    return Place(Path(fields["location"]), int(fields["offset"]), int(fields["length"]))


def values(tensor: TensorProto) -> NDArray[Any]:
    """A tensor's values, wherever they lie; those on the disk are read as they are used."""
    place = place_of(tensor)
    if place is None:
        return np.asarray(numpy_helper.to_array(tensor))
    if tensor.data_type in _PER_BYTE:
        copy = TensorProto(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=place.read()
        )
        return np.asarray(numpy_helper.to_array(copy))
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(place.file, kind, "r", place.offset, tuple(tensor.dims))


def hold(tensor: TensorProto, data: bytes) -> None:
    """Let a tensor hold its bytes itself."""
    tensor.raw_data = data
    del tensor.external_data[:]
    tensor.ClearField("data_location")


def refer(tensor: TensorProto, place: Place) -> None:
    for field in (
        "raw_data",
        "float_data",
        "int32_data",
        "int64_data",
        "double_data",
        "uint64_data",
    ):
        tensor.ClearField(field)
    del tensor.external_data[:]
    for key, value in (("location", place.file), ("offset", place.offset), ("length", place.size)):
        tensor.external_data.add(key=key, value=str(value))
    tensor.data_location = TensorProto.EXTERNAL


def chunks_of(tensor: TensorProto) -> Iterator[bytes]:
    place = place_of(tensor)
    if place:
        yield from place.chunks()
    elif tensor.HasField("raw_data"):
        yield tensor.raw_data
    else:
        yield numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data


def is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def byte_count(tensor: TensorProto) -> int:
    """A tensor's bytes."""
    count = math.prod(tensor.dims)
    if tensor.data_type in _PER_BYTE:
        return int(-(-count // _PER_BYTE[tensor.data_type]))
    if tensor.data_type == TensorProto.STRING:
        return 0
    try:
        return int(count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:  # a type that ONNX does not have: the checker says so
        return 0


def all_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a graph."""
    yield from model.graph.initializer
    yield from constants(model)


def constants(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Those that are no weights of the graph itself: constants, and what subgraphs and functions
    have.
    """
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(model.graph.node)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)
