"""Weights beside a graph, of graphs of some bytes: where they lie, what is written, and what is
refused.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.graphs import data_files, external, tensors
from enginery.graphs.tensors import Place
from enginery.system.files import sha256

CURE = "Copy the graph with its data files, or export it again"
BIG = np.arange(600, dtype=np.float32).reshape(2, 300)
EDGE = np.arange(256, dtype=np.float32)  # 1024 bytes: the smallest that lies outside
SMALL = np.arange(255, dtype=np.float32)
PLAIN = np.arange(1500, dtype=np.int64)


def tensor(name: str, values: np.ndarray[Any, Any], raw: bool = True) -> TensorProto:
    if raw:
        return numpy_helper.from_array(values, name)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    return helper.make_tensor(name, kind, values.shape, values.reshape(-1).tolist())


def model(*weights: TensorProto, **metadata: str) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    body = helper.make_graph([node], "g", ends[:1], ends[1:], list(weights))
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in metadata.items():
        made.metadata_props.add(key=key, value=value)
    return made


def four(**metadata: str) -> onnx.ModelProto:
    weights = [
        tensor("b", BIG),
        tensor("e", EDGE),
        tensor("s", SMALL),
        tensor("p", PLAIN, raw=False),
    ]
    return model(*weights, **metadata)


def refers(name: str, to: str, size: int = 8, **fields: str) -> TensorProto:
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[size // 4])
    found.data_location = TensorProto.EXTERNAL
    for key, value in {"location": to, **fields}.items():
        found.external_data.add(key=key, value=value)
    return found


def fields_of(found: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in found.external_data}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph is large that has a byte."""
    monkeypatch.setattr(external, "LARGEST", 0)


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


def test_weights_are_taken_into_memory(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(BIG.tobytes())
    made = model(
        refers("a", "w"),
        refers("b", "w", 2400),
        refers("c", "w", offset="4", length="8"),
        data_sha256="x",
    )
    made.graph.node[0].attribute.append(
        helper.make_attribute("value", refers("d", "w", offset="8"))
    )
    external.load(made, tmp_path, Path("own.onnx"))
    constant = made.graph.node[0].attribute[0].t
    expected = [[0, 1], BIG.reshape(-1).tolist(), [1, 2], [2, 3]]
    for each, values in zip([*made.graph.initializer, constant], expected, strict=True):
        assert numpy_helper.to_array(each).tolist() == values
        assert len(each.external_data) == 0
        assert not each.HasField("data_location")
    assert len(made.metadata_props) == 0


@pytest.mark.usefixtures("large")
def test_the_weights_of_a_large_graph_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w").write_bytes(BIG.tobytes())
    made = model(refers("a", "w", 1020), refers("b", "w", 1024, offset="4"))
    made.graph.node[0].attribute.append(helper.make_attribute("value", refers("d", "w", 1024)))
    external.load(made, Path(), Path("own.onnx"))
    assert [len(each.raw_data) for each in made.graph.initializer] == [1020, 0]
    assert tensors.place_of(made.graph.initializer[1]) == Place(tmp_path / "w", 4, 1024)
    assert len(made.graph.node[0].attribute[0].t.raw_data) == 1024


def refused(tmp_path: Path, found: TensorProto) -> ModelError:
    with pytest.raises(ModelError) as error:
        external.load(model(found), tmp_path, Path("user/own.onnx"))
    return error.value


def test_data_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(20))
    error = refused(tmp_path, refers("t", "none"))
    assert (
        error.what
        == "user/own.onnx: its data file user/none cannot be read: No such file or directory"
    )
    assert error.cure == CURE
    (tmp_path / "folder").mkdir()
    error = refused(tmp_path, refers("t", "folder"))
    assert error.what == "user/own.onnx: its data file user/folder is no plain file"
    assert error.cure == CURE
    error = refused(tmp_path, refers("t", "w", 16, offset="5"))
    assert error.what == (
        "user/own.onnx: its data file user/w has 20 bytes, 21 are needed: it was cut off, or is another graph's"
    )
    assert error.cure == CURE
    external.load(model(refers("t", "w", 16, offset="4")), tmp_path, Path("own.onnx"))
    for offset, length in (("-1", "8"), ("x", "8"), ("0", "9")):
        error = refused(tmp_path, refers("t", "w", offset=offset, length=length))
        assert error.what == (
            f"user/own.onnx: its tensor t takes 8 bytes, and it says {length} from {offset} on in w"
        )
        assert error.cure == "Export it again"
    negative = refers("t", "w", length="-8")
    negative.dims[:] = [-2]
    assert refused(tmp_path, negative).what.startswith(
        "user/own.onnx: its tensor t takes -8 bytes, "
    )
    empty = refers("t", "w")
    empty.dims[:] = [0]
    external.load(model(empty), tmp_path, Path("own.onnx"))
    for name in ("", "a\0b", "/w", "../w", "a/../../w"):
        error = refused(tmp_path, refers("t", name))
        assert error.what == (
            f"user/own.onnx: its tensor t lies in {name!r}, which is no file beside the graph"
        )
        assert error.cure == "Export it with its data in files beside it, named without a path"
    nameless = refers("t", "w")
    del nameless.external_data[:]
    assert "its tensor t lies in ''," in refused(tmp_path, nameless).what


def test_a_data_file_is_one_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(20))
    assert data_files.check_data_file(tmp_path / "w", Path("w"), Path("g")) == 20


def test_data_files_are_named_once_and_in_order(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [], [refers("i", "if")])
    sparse = helper.make_sparse_tensor(refers("v", "values"), refers("w", "indices"), [4])
    made = model(refers("a", "z"), refers("b", "a/./b"), refers("c", "z"), tensor("s", SMALL))
    made.graph.sparse_initializer.append(sparse)
    node = made.graph.node[0]
    node.attribute.append(helper.make_attribute("one", refers("t", "t")))
    node.attribute.append(helper.make_attribute("many", [refers("u", "u1"), refers("v", "u2")]))
    node.attribute.append(helper.make_attribute("then", inner))
    second = helper.make_graph([], "second", [], [], [refers("i", "else")])
    nested = helper.make_node(
        "If", [], [], then_branch=helper.make_graph([], "n", [], [], [refers("n", "nested")])
    )
    second.node.append(nested)
    second.sparse_initializer.append(
        helper.make_sparse_tensor(refers("v", "v2"), refers("w", "i2"), [4])
    )
    node.attribute.append(helper.make_attribute("graphs", [second]))
    function = helper.make_function(
        "own",
        "F",
        [],
        [],
        [helper.make_node("Constant", [], ["c"], value=refers("f", "function"))],
        [helper.make_opsetid("", 17)],
    )
    made.functions.append(function)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    names = [
        "a/b",
        "else",
        "function",
        "i2",
        "if",
        "indices",
        "nested",
        "t",
        "u1",
        "u2",
        "v2",
        "values",
        "z",
    ]
    assert data_files.data_files(tmp_path / "m.onnx", Path("own.onnx")) == names
    assert data_files.data_digests(tmp_path / "m.onnx") == dict.fromkeys(names, "missing")
    (tmp_path / "z").write_bytes(b"1")
    (tmp_path / "t").mkdir()
    digests = data_files.data_digests(tmp_path / "m.onnx")
    assert (digests["z"], digests["t"]) == (sha256(tmp_path / "z"), "missing")


def test_what_has_no_data_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert data_files.data_digests(path) == {}
    path.touch()
    assert data_files.data_files(path, path) == []
    path.write_bytes(b"no graph at all")
    assert data_files.data_files(path, path) == []  # without the word nothing is read
    path.write_bytes(b"location")
    with pytest.raises(ModelError) as error:
        data_files.data_files(path, Path("own.onnx"))
    assert error.value.what == "own.onnx is no ONNX file, or was cut off or altered"
    assert error.value.cure == "Copy or export it again"
    assert data_files.data_digests(path) == {}
    path.write_bytes(model(refers("t", "/w")).SerializeToString())
    assert data_files.data_digests(path) == {}
    path.unlink()
    os.mkfifo(path)
    assert data_files.data_digests(path) == {}


def test_the_digest_of_a_source_with_its_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"graph")
    own = hashlib.sha256(b"graph").hexdigest()
    assert data_files.source_digest(path, {}) == own
    expected = hashlib.sha256(f"{own}\na\0002\nb\0001\n".encode()).hexdigest()
    assert data_files.source_digest(path, {"b": "1", "a": "2"}) == expected


def test_weights_on_the_disk_are_inputs_of_what_is_checked() -> None:
    made = model(tensor("s", SMALL), refers("a", "w"), refers("x", "w"))
    bare = external.without_weights(made)
    assert [each.name for each in bare.graph.initializer] == ["s"]
    assert [each.name for each in bare.graph.input] == ["x", "a"]
    kind = bare.graph.input[1].type.tensor_type
    assert (kind.elem_type, [size.dim_value for size in kind.shape.dim]) == (TensorProto.FLOAT, [2])
    assert [each.name for each in made.graph.initializer] == ["s", "a", "x"]
    assert [each.name for each in made.graph.input] == ["x"]
    plain = model(tensor("s", SMALL))
    assert external.without_weights(plain) is plain


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
