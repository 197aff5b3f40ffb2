"""A graph above the limit is written as two files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from enginery.graphs import data_files, external, tensors
from enginery.graphs.tensors import Place
from tests.exact.external.common import (
    BIG,
    CURE,
    EDGE,
    PLAIN,
    SMALL,
    fields_of,
    four,
    model,
    refers,
    tensor,
)


def test_constants() -> None:
    assert external.LARGEST == 1_900_000_000
    assert (external.SUFFIX, external.DIGEST) == (".data", "data_sha256")
    assert (external._SMALLEST, external._PAGE, tensors._CHUNK) == (1024, 4096, 1 << 24)
    assert data_files._CURE == CURE


def test_a_place_is_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(range(100)))
    place = Place(file, 10, 25)
    assert place.read() == bytes(range(10, 35))
    assert place.digest() == hashlib.sha256(bytes(range(10, 35))).digest()
    monkeypatch.setattr(tensors, "_CHUNK", 10)
    assert list(place.chunks()) == [
        bytes(range(start, end)) for start, end in ((10, 20), (20, 30), (30, 35))
    ]
    assert place.digest() == hashlib.sha256(bytes(range(10, 35))).digest()
    assert b"".join(Place(file, 95, 25).chunks()) == bytes(range(95, 100))  # it ends all the same
    assert list(Place(file, 10, 0).chunks()) == []


@pytest.mark.usefixtures("large")
def test_a_large_graph_is_written_as_two_files(tmp_path: Path) -> None:
    made, out = four(data_sha256="old", task="x"), tmp_path / "m.onnx"
    external.write_graph(made, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    data = (tmp_path / "m.onnx.data").read_bytes()
    assert data == (
        BIG.tobytes()
        + bytes(4096 - BIG.nbytes)
        + EDGE.tobytes()
        + bytes(4096 - EDGE.nbytes)
        + PLAIN.tobytes()
    )
    written = onnx.load(out, load_external_data=False)
    digest = hashlib.sha256(data).hexdigest()
    assert [(entry.key, entry.value) for entry in written.metadata_props] == [
        ("task", "x"),
        ("data_sha256", digest),
    ]
    assert [fields_of(each) for each in written.graph.initializer] == [
        {"location": "m.onnx.data", "offset": "0", "length": "2400"},
        {"location": "m.onnx.data", "offset": "4096", "length": "1024"},
        {},
        {"location": "m.onnx.data", "offset": "8192", "length": "12000"},
    ]
    assert [each.data_location for each in written.graph.initializer] == [1, 1, 0, 1]
    # In memory, the same by its absolute path, and none of the weights.
    kept = [tensors.place_of(each) for each in made.graph.initializer]
    assert kept == [
        Place(tmp_path / "m.onnx.data", 0, 2400),
        Place(tmp_path / "m.onnx.data", 4096, 1024),
        None,
        Place(tmp_path / "m.onnx.data", 8192, 12000),
    ]
    assert [len(each.raw_data) for each in made.graph.initializer] == [0, 0, 1020, 0]
    assert len(made.graph.initializer[3].int64_data) == 0
    for each, values in zip(made.graph.initializer, (BIG, EDGE, SMALL, PLAIN), strict=True):
        assert np.array_equal(tensors.values(each), values)
        assert tensors.values(each).dtype == values.dtype
    assert isinstance(tensors.values(made.graph.initializer[0]), np.memmap)
    # Written from there to another place, it is the same two files.
    external.write_graph(made, tmp_path / "n.onnx")
    assert (tmp_path / "n.onnx.data").read_bytes() == data


@pytest.mark.usefixtures("large")
def test_the_data_of_a_graph_lies_in_a_relative_place_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = four()
    external.write_graph(made, Path("m.onnx"))
    place = tensors.place_of(made.graph.initializer[0])
    assert place is not None
    assert place.file == tmp_path / "m.onnx.data"


def test_a_small_graph_is_written_as_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, checked = tmp_path / "m.onnx", []
    made = four()
    monkeypatch.setattr(external, "LARGEST", 0)
    external.write_graph(made, out)
    monkeypatch.setattr(external, "LARGEST", 1 << 20)
    external.write_graph(made, out, lambda path: checked.append(onnx.load(path)))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert out.read_bytes() == made.SerializeToString(deterministic=True)
    assert len(made.metadata_props) == 0
    assert [found.graph.name for found in checked] == ["g"]
    for each, values in zip(made.graph.initializer, (BIG, EDGE, SMALL, PLAIN), strict=True):
        assert np.array_equal(numpy_helper.to_array(each), values)
        assert not each.HasField("data_location") or each.data_location == 0
        assert len(each.external_data) == 0


def test_a_graph_is_large_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    made = four()
    monkeypatch.setattr(external, "LARGEST", 2400 + 1024 + 1020 + 12000)
    assert not external.is_large(made)
    monkeypatch.setattr(external, "LARGEST", 2400 + 1024 + 1020 + 12000 - 1)
    assert external.is_large(made)


def test_every_kind_of_tensor_has_its_size() -> None:
    def size(kind: int, *dims: int) -> int:
        return tensors.byte_count(TensorProto(data_type=kind, dims=dims))

    assert size(TensorProto.FLOAT16, 3, 5) == 30
    assert size(TensorProto.DOUBLE) == 8
    assert [size(TensorProto.INT4, count) for count in (4, 5)] == [2, 3]
    assert [size(TensorProto.UINT4, count) for count in (4, 5)] == [2, 3]
    assert [size(TensorProto.FLOAT4E2M1, count) for count in (4, 5)] == [2, 3]
    assert [size(TensorProto.INT2, count) for count in (4, 5)] == [1, 2]
    assert [size(TensorProto.UINT2, count) for count in (4, 5)] == [1, 2]
    assert size(TensorProto.STRING, 7) == 0
    assert size(99, 7) == 0


def test_a_graph_whose_data_lies_in_one_folder() -> None:
    plain = model(tensor("s", SMALL))
    assert external.relative(plain) == (plain, None)
    assert external.relative(plain)[0] is plain
    at = {"offset": "4", "length": "8"}
    made = model(refers("a", "/d/e/w", **at), tensor("s", SMALL), refers("b", "/d/f/w", **at))
    copy, folder = external.relative(made)
    assert folder == Path("/d")
    assert [fields_of(each).get("location") for each in copy.graph.initializer] == [
        "e/w",
        None,
        "f/w",
    ]
    assert fields_of(copy.graph.initializer[0]) == {"location": "e/w", "offset": "4", "length": "8"}
    assert fields_of(made.graph.initializer[0])["location"] == "/d/e/w"


def test_a_reference_takes_the_place_of_values_of_any_kind() -> None:
    kinds = {
        "float_data": 1.0,
        "int32_data": 1,
        "int64_data": 1,
        "double_data": 1.0,
        "uint64_data": 1,
    }
    found = TensorProto(raw_data=b"1")
    for key, value in kinds.items():
        getattr(found, key).append(value)
    tensors.refer(found, Place(Path("/w"), 1, 2))
    tensors.refer(found, Place(Path("/w"), 4, 8))
    expected = TensorProto(data_location=TensorProto.EXTERNAL)
    for key, text in (("location", "/w"), ("offset", "4"), ("length", "8")):
        expected.external_data.add(key=key, value=text)
    assert found == expected
    assert tensors.place_of(found) == Place(Path("/w"), 4, 8)
