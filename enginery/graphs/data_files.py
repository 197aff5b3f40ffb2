"""The files beside an ONNX graph that hold its weights: their names, checks and digests."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from enginery.errors import ModelError
from enginery.graphs.tensors import Place, all_tensors, byte_count, is_external
from enginery.system.files import sha256

_CURE = "Copy the graph with its data files, or export it again"


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
    names = {location(tensor, called) for tensor in all_tensors(model) if is_external(tensor)}
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


def place_in(tensor: TensorProto, folder: Path, called: Path) -> Place:
    """Where a tensor's bytes lie, checked."""
    name, fields = (
        location(tensor, called),
        {entry.key: entry.value for entry in tensor.external_data},
    )
    size = byte_count(tensor)
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


def _may_have_data(graph: Path) -> bool:
    """Whether the word is in the file that each reference has: large graphs without are not read
    for it.
    """
    with graph.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"location") >= 0


def location(tensor: TensorProto, called: Path) -> str:
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
