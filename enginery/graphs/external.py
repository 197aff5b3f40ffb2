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
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import onnx
from onnx import TensorProto, helper

from enginery.graphs.data_files import place_in
from enginery.graphs.tensors import (
    Place,
    all_tensors,
    byte_count,
    chunks_of,
    constants,
    hold,
    is_external,
    place_of,
    refer,
)
from enginery.system.files import atomic_write

LARGEST = 1_900_000_000  # bytes of one file: protobuf ends at 2 GiB, and a step may add nodes
SUFFIX = ".data"
DIGEST = "data_sha256"  # in the metadata of a graph of two files
_SMALLEST = 1024  # bytes: shape inference and the converters look into smaller tensors
_PAGE = 4096  # ONNX's own advice: a data file can then be mapped into memory


def load(model: onnx.ModelProto, folder: Path, called: Path) -> None:
    """Take a graph's external data from `folder` into memory, or, of a large graph, say there where
    the weights lie.

    Raises:
        ModelError: a data file is missing or too short, or its name leads out of the folder.
    """
    _forget_digest(model)
    large = is_large(model)
    for tensor in filter(is_external, model.graph.initializer):
        place = place_in(tensor, folder, called)
        if large and place.size >= _SMALLEST:
            refer(tensor, Place(place.file.absolute(), place.offset, place.size))
        else:
            hold(tensor, place.read())
    for tensor in filter(is_external, constants(model)):
        hold(tensor, place_in(tensor, folder, called).read())


def is_large(model: onnx.ModelProto) -> bool:
    """Whether a graph is too large for one file."""
    return sum(map(byte_count, all_tensors(model))) > LARGEST


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose weights on the disk are inputs, a copy: what is left can be checked without
    them.
    """
    if not any(map(is_external, model.graph.initializer)):
        return model
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    known = {value.name for value in bare.graph.input}
    outside = [tensor for tensor in bare.graph.initializer if is_external(tensor)]
    for tensor in outside:
        if tensor.name not in known:
            bare.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    kept = [tensor for tensor in bare.graph.initializer if not is_external(tensor)]
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
            refer(tensor, Place(place.file.relative_to(folder), place.offset, place.size))
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
            if byte_count(tensor) < _SMALLEST:
                continue
            _append(b"\0" * (-file.tell() % _PAGE), file, digest)
            start = file.tell()
            for chunk in chunks_of(tensor):
                _append(chunk, file, digest)
            places.append((tensor, Place(out.absolute(), start, file.tell() - start)))
    for tensor, place in places:
        refer(tensor, place)
    return digest.hexdigest()


def _append(chunk: bytes, file: IO[bytes], digest: Any) -> None:
    file.write(chunk)
    digest.update(chunk)
