"""Weights beside a graph: read, refused, and named as inputs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.graphs import data_files, external, tensors
from enginery.graphs.tensors import Place
from enginery.system.files import sha256
from tests.exact.external.common import BIG, CURE, SMALL, model, refers, tensor


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
