"""External data: weights that lie beside a graph's file, as ONNX keeps them above protobuf's limit
of 2 GB.

A graph below LARGEST is held in memory and written as one file, whatever it came from. A larger one
is two files, model.onnx and model.onnx.data, and its weights stay on the disk: in memory, their
initializers name the data file by its absolute path, and `values` reads them. So no step holds more
than some of the weights.

model.onnx holds the digest of its data: what depends on model.onnx depends on both.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.system.files import atomic_write, sha256

LARGEST = 1_900_000_000  # bytes of one file: protobuf ends at 2 GiB, and a step may add nodes
SUFFIX = ".data"
DIGEST = "data_sha256"  # in the metadata of a graph of two files
_SMALLEST = 1024  # bytes: shape inference and the converters look into smaller tensors
_PAGE = 4096  # ONNX's own advice: a data file can then be mapped into memory
_CHUNK = 1 << 24
_PER_BYTE = {  # values of the types that are smaller than one
    TensorProto.INT4: 2,
    TensorProto.UINT4: 2,
    TensorProto.FLOAT4E2M1: 2,
    TensorProto.INT2: 4,
    TensorProto.UINT2: 4,
}
_CURE = "Copy the graph with its data files, or export it again"


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


def load(model: onnx.ModelProto, folder: Path, called: Path) -> None:
    """Take a graph's external data from `folder` into memory, or, of a large graph, say there where
    the weights lie.

    Raises:
        ModelError: a data file is missing or too short, or its name leads out of the folder.
    """
    _forget_digest(model)
    large = is_large(model)
    for tensor in filter(_is_external, model.graph.initializer):
        place = _place(tensor, folder, called)
        if large and place.size >= _SMALLEST:
            _refer(tensor, Place(place.file.absolute(), place.offset, place.size))
        else:
            hold(tensor, place.read())
    for tensor in filter(_is_external, _constants(model)):
        hold(tensor, _place(tensor, folder, called).read())


def is_large(model: onnx.ModelProto) -> bool:
    """Whether a graph is too large for one file."""
    return sum(map(_size, _tensors(model))) > LARGEST


def place_of(tensor: TensorProto) -> Place | None:
    """Where the bytes of a weight of a large graph lie; None where the tensor holds them."""
    if not _is_external(tensor):
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


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose weights on the disk are inputs, a copy: what is left can be checked without
    them.
    """
    if not any(map(_is_external, model.graph.initializer)):
        return model
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    known = {value.name for value in bare.graph.input}
    outside = [tensor for tensor in bare.graph.initializer if _is_external(tensor)]
    for tensor in outside:
        if tensor.name not in known:
            bare.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    kept = [tensor for tensor in bare.graph.initializer if not _is_external(tensor)]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    return bare


def relative(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Path | None]:
    """A graph for whoever is told the folder of its data beside: a copy, and that folder; None
    where all is in memory.
    """
    places = [
        place.file.parent for tensor in model.graph.initializer if (place := place_of(tensor))
    ]
    if not places:
        return model, None
    folder = Path(os.path.commonpath(places))
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if place := place_of(tensor):
            _refer(tensor, Place(place.file.relative_to(folder), place.offset, place.size))
    return copy, folder


def write_graph(
    model: onnx.ModelProto, out: Path, check: Callable[[Path], object] | None = None
) -> None:
    """Write a graph, byte for byte the same for the same graph; a large one with its weights beside
    it, as `out` with .data.

    `check` may look at the graph before it takes its place. The weights of a large graph leave the
    memory.
    """
    _forget_digest(model)
    data = out.with_name(out.name + SUFFIX)
    if is_large(model):
        model.metadata_props.add(key=DIGEST, value=_write_weights(model, data))
        model, _ = relative(model)
    else:
        for tensor in model.graph.initializer:
            if place := place_of(tensor):
                hold(tensor, place.read())
        data.unlink(missing_ok=True)
    with atomic_write(out) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))
        if check:
            check(partial)


def data_files(graph: Path, called: Path) -> list[str]:
    """The names of a graph's data files, relative to its folder; errors name what it is `called`.

    Raises:
        ModelError: the file is no ONNX, or a name leads out of the folder.
        OSError: it cannot be read.
    """
    try:
        model = onnx.load_from_string(graph.read_bytes() if _may_have_data(graph) else b"")
    except DecodeError:
        raise ModelError(
            f"{called} is no ONNX file, or was cut off or altered", "Copy or export it again"
        ) from None
    names = {_location(tensor, called) for tensor in _tensors(model) if _is_external(tensor)}
    return sorted(names)


def data_digests(source: Path) -> dict[str, str]:
    """The digest of each data file of an ONNX, by its name; of what cannot be read, nothing: its
    export says why.
    """
    if not source.is_file():  # a pipe would be waited for
        return {}
    try:
        return {name: _digest_or_none(source.parent / name) for name in data_files(source, source)}
    except (ModelError, OSError):
        return {}


def _digest_or_none(file: Path) -> str:
    return sha256(file) if file.is_file() else "missing"


def check_data_file(file: Path, named: Path, graph: Path) -> int:
    """The bytes that a data file has; errors call it `named`.

    Raises:
        ModelError: it cannot be read, or is no plain file.
    """
    try:
        state = file.stat()
    except OSError as error:
        raise ModelError(
            f"{graph}: its data file {named} cannot be read: {error.strerror}", _CURE
        ) from None
    if not stat.S_ISREG(state.st_mode):
        raise ModelError(f"{graph}: its data file {named} is no plain file", _CURE)
    return state.st_size


def source_digest(graph: Path, names: Mapping[str, str]) -> str:
    """Hex digest of an ONNX with its data files, `names` with their own digests; of one without,
    simply its file's.
    """
    digest = sha256(graph)
    if not names:
        return digest
    lines = [f"{name}\0{names[name]}\n" for name in sorted(names)]
    return hashlib.sha256("".join([f"{digest}\n", *lines]).encode()).hexdigest()


def _may_have_data(graph: Path) -> bool:
    """Whether the word is in the file that each reference has: large graphs without are not read
    for it.
    """
    with graph.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"location") >= 0


def _forget_digest(model: onnx.ModelProto) -> None:
    """It is of two files, not of the graph in memory."""
    others = [entry for entry in model.metadata_props if entry.key != DIGEST]
    if len(others) < len(model.metadata_props):
        del model.metadata_props[:]
        model.metadata_props.extend(others)


def _write_weights(model: onnx.ModelProto, out: Path) -> str:
    """Write a large graph's weights one after another, let it refer to them, and return the file's
    digest.
    """
    digest = hashlib.sha256()
    places: list[tuple[TensorProto, Place]] = []
    with atomic_write(out) as partial, partial.open("wb") as file:
        for tensor in model.graph.initializer:
            if _size(tensor) < _SMALLEST:
                continue
            _append(b"\0" * (-file.tell() % _PAGE), file, digest)
            start = file.tell()
            for chunk in _bytes(tensor):
                _append(chunk, file, digest)
            places.append((tensor, Place(out.absolute(), start, file.tell() - start)))
    for tensor, place in places:
        _refer(tensor, place)
    return digest.hexdigest()


def _append(chunk: bytes, file: IO[bytes], digest: Any) -> None:
    file.write(chunk)
    digest.update(chunk)


def _bytes(tensor: TensorProto) -> Iterator[bytes]:
    place = place_of(tensor)
    if place:
        yield from place.chunks()
    elif tensor.HasField("raw_data"):
        yield tensor.raw_data
    else:
        yield numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a graph."""
    yield from model.graph.initializer
    yield from _constants(model)


def _constants(model: onnx.ModelProto) -> Iterator[TensorProto]:
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


def _is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _size(tensor: TensorProto) -> int:
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


def _place(tensor: TensorProto, folder: Path, called: Path) -> Place:
    """Where a tensor's bytes lie, checked."""
    name, fields = (
        _location(tensor, called),
        {entry.key: entry.value for entry in tensor.external_data},
    )
    size = _size(tensor)
    offset, length = fields.get("offset", "0"), fields.get("length", str(size))
    if not offset.isdecimal() or length != str(size) or size < 0:
        what = (
            f"{called}: its tensor {tensor.name} takes {size} bytes, and it says {length} from "
            f"{offset} on in {name}"
        )
        raise ModelError(what, "Export it again")
    has = check_data_file(folder / name, called.parent / name, called)
    if has < int(offset) + size:
        what = (
            f"{called}: its data file {called.parent / name} has {has} bytes, "
            f"{int(offset) + size} are needed: it was cut off, or is another graph's"
        )
        raise ModelError(what, _CURE)
    return Place(folder / name, int(offset), size)


def _location(tensor: TensorProto, called: Path) -> str:
    """The name of a tensor's data file: below the graph's own folder, or it is refused."""
    name = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    path = Path(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        what = (
            f"{called}: its tensor {tensor.name} lies in {name!r}, which is no file beside the "
            "graph"
        )
        raise ModelError(what, "Export it with its data in files beside it, named without a path")
    return path.as_posix()


def _refer(tensor: TensorProto, place: Place) -> None:
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
