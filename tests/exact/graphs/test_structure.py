"""A graph's structure, its weights, its inputs and outputs, and graphs that are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.graphs import inspect
from enginery.graphs.inspect import GraphInfo, Profile, TensorInfo
from enginery.graphs.structure import save_weights, structure_digest
from tests.exact.graphs.common import convolution, model, node, quantized


def test_the_digest_of_a_structure_is_without_the_values_of_its_weights() -> None:
    first, other = convolution(), convolution()
    other.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((2, 2, 2, 2), np.float32), "w")
    )
    before = first.SerializeToString()
    digest = structure_digest(first, ["w"], "more")
    assert first.SerializeToString() == before
    assert structure_digest(other, ["w"], "more") == digest
    assert structure_digest(other, [], "more") != structure_digest(first, [], "more")
    assert structure_digest(first, ["w"], "other") != digest
    bare = convolution()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2, 2, 2])
    bare.graph.initializer[0].CopyFrom(tensor)
    expected = bare.SerializeToString(deterministic=True) + b"more"
    assert digest == hashlib.sha256(expected).hexdigest()


@pytest.mark.parametrize(
    "weights", [np.ones((2, 2, 2, 1), np.float32), np.ones((2, 2, 2, 2), np.float16)]
)
def test_the_type_and_shape_of_a_weight_count(weights: np.ndarray) -> None:
    changed = convolution()
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    assert structure_digest(changed, ["w"], "") != structure_digest(convolution(), ["w"], "")


def test_weights_are_saved_by_name(tmp_path: Path) -> None:
    made = model(
        node("Conv", "x,w", "y"),
        w=np.ones((2, 2, 1, 1), np.float32),
        file=np.zeros(3, np.float16),
        c=np.ones(2, np.int64),
    )
    save_weights(made, ["w", "file", "none"], tmp_path / "w.npz", "pre/")
    with np.load(tmp_path / "w.npz") as found:
        assert found.files == ["pre/w", "pre/file"]
        assert (found["pre/w"].tolist(), found["pre/w"].dtype) == (
            np.ones((2, 2, 1, 1)).tolist(),
            np.float32,
        )
        assert (found["pre/file"].tolist(), found["pre/file"].dtype) == ([0, 0, 0], np.float16)


# What a graph takes and gives


def test_what_a_graph_takes_and_gives() -> None:
    made = model(node("Conv", "x,w", "y"), w=np.ones((2, 2, 1, 1), np.float32))
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2, 1, 1]))
    made.graph.input.append(
        helper.make_tensor_value_info("n", TensorProto.INT64, ["batch", None, 3])
    )
    made.opset_import.append(helper.make_opsetid("own", 40))
    found = inspect.info_of(made)
    assert found == GraphInfo(
        (TensorInfo("x", "FLOAT", (1, 2, 4, 4)), TensorInfo("n", "INT64", ("batch", "?", 3))),
        (TensorInfo("y", "FLOAT", ("a", "b", "c", "d")),),
        17,
        1,
        32,
    )
    made.opset_import.append(helper.make_opsetid("ai.onnx", 18))
    assert inspect.info_of(made).opset == 18
    for text, stride in (("x", None), ("-1", None), ("64", 64), ("", None)):
        next(entry for entry in made.metadata_props if entry.key == "stride").value = text
        assert inspect.info_of(made).stride == stride
    del made.metadata_props[:]
    assert inspect.info_of(made).stride is None


def test_own_quantization() -> None:
    assert inspect.has_own_quantization(quantized(17).graph) is True
    assert inspect.has_own_quantization(convolution().graph) is False
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        assert inspect.has_own_quantization(model(node(kind, "x,s,z", "y")).graph) is True


def misfits(
    shape: tuple[int | str, ...],
    *sizes: tuple[int, ...],
    stride: int | None = None,
    name: str = "x",
) -> list[str]:
    info = GraphInfo(
        (TensorInfo("x", "FLOAT", shape), TensorInfo("z", "FLOAT", (1,))), (), 17, 1, stride
    )
    return inspect.check_profile(info, {name: Profile(*sizes)})


def test_profiles_and_graphs() -> None:
    opened = ("n", 3, "h", "w")
    assert misfits(opened, (1, 3, 32, 32), (2, 3, 64, 64), (4, 3, 96, 96)) == []
    assert misfits(opened, (1, 3, 32, 32), (1, 3, 32, 32), (1, 3, 32, 32), stride=32) == []
    assert misfits((1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8)) == []
    same = (1, 3, 32, 32)
    assert misfits(opened, same, same, same, name="y") == [
        "no input is called 'y', the graph has x, z"
    ]
    expected = ["x: 4 sizes are expected, ['n', 3, 'h', 'w']"]
    for sizes in ((same[:3], same, same), (same, same[:3], same), (same, same, (*same, 1))):
        assert misfits(opened, *sizes) == expected
    assert misfits(opened, (0, 3, 32, 32), same, same) == ["x: axis 0: 0 is below 1"]
    words = "x: axis 0: min <= opt <= max must hold, not"
    assert misfits(opened, (2, 3, 32, 32), same, (2, 3, 32, 32)) == [f"{words} [2, 1, 2]"]
    assert misfits(opened, same, (2, 3, 32, 32), same) == [f"{words} [1, 2, 1]"]
    fixed = "x: axis 1: the graph has the fixed size 3, the profile [3, 3, 4]"
    assert misfits(opened, same, same, (1, 4, 32, 32)) == [fixed]
    assert misfits(opened, (1, 3, 31, 32), same, (1, 3, 32, 48), stride=32) == [
        "x: axis 2: [31, 32, 32] must be multiples of the stride, 32",
        "x: axis 3: [32, 32, 48] must be multiples of the stride, 32",
    ]
    assert misfits(opened, (1, 3, 32, 32), (5, 3, 32, 32), (7, 3, 32, 32), stride=32) == []


def test_what_changes_from_run_to_run_is_removed() -> None:
    made = convolution()
    made.producer_name, made.producer_version, made.doc_string = "torch", "2", "by me"
    made.graph.node[0].doc_string = "here"
    made.graph.node[0].metadata_props.add(key="stack", value="/home/me")
    found = inspect.strip_metadata(made, {"b": "2", "a": "1"})
    assert found is made
    assert [(entry.key, entry.value) for entry in made.metadata_props] == [("a", "1"), ("b", "2")]
    assert (made.producer_name, made.producer_version, made.doc_string) == ("enginery", "", "")
    assert (made.graph.node[0].doc_string, len(made.graph.node[0].metadata_props)) == ("", 0)
    assert len(inspect.strip_metadata(made).metadata_props) == 0


AGAIN = "Export the model again"


def test_files_that_are_no_graphs(tmp_path: Path) -> None:
    path, called = tmp_path / "a.onnx", Path("mine.onnx")
    with pytest.raises(ModelError) as error:
        inspect.read_graph(path)
    assert str(error.value) == f"{path}: No such file or directory. Correct the path in params.yaml"
    for data, words in (
        (b"", f"is empty. {AGAIN}"),
        (b"\xff", "is no ONNX file, or was cut off or altered. Copy or export it again"),
    ):
        path.write_bytes(data)
        for name in (None, called):
            with pytest.raises(ModelError) as error:
                inspect.read_graph(path, name)
            assert str(error.value) == f"{name or path} {words}"


def refused(tmp_path: Path, made: onnx.ModelProto) -> str:
    onnx.save(made, tmp_path / "a.onnx")
    with pytest.raises(ModelError) as error:
        inspect.read_graph(tmp_path / "a.onnx")
    return str(error.value).replace(str(tmp_path), "")


def test_graphs_that_are_refused(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    found = refused(tmp_path, convolution(newest + 1))
    assert (
        found
        == f"/a.onnx has opset {newest + 1}, {newest} is the newest that onnx knows. Export it with an older opset"
    )
    odd = model(
        node("Odd", "x", "a", "one"), node("Other", "a", "b", "two"), node("Relu", "b", "y")
    )
    words = "Odd (node one), Other (node two). Replace them in the model"
    assert refused(tmp_path, odd) == f"/a.onnx has operators that are not part of ONNX: {words}"
    broken = model(node("Relu", "nothing", "y"))
    assert refused(tmp_path, broken).startswith("/a.onnx is not valid ONNX: ")
    assert refused(tmp_path, broken).endswith(". Export it again")
    double = model(node("Relu", "x", "y"))
    for value in (*double.graph.input, *double.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    assert refused(tmp_path, double) == (
        "/a.onnx: input x is float64, which TensorRT does not run. Export it with float32 inputs"
    )
    assert inspect._one_line(ValueError("a\n  b" + "x" * 400)) == "a b" + "x" * 297


def test_where_weights_lie_does_not_count(tmp_path: Path) -> None:
    from enginery.graphs import tensors

    digests = []
    for name, content in (("a", b"12345678"), ("b", b"12345678"), ("c", b"12345679")):
        (tmp_path / name).write_bytes(content)
        made = onnx.ModelProto()
        tensor = made.graph.initializer.add(name="w", data_type=1, dims=[2])
        tensors.refer(tensor, tensors.Place(tmp_path / name, 0, 8))
        digests.append(structure_digest(made, [], ""))
        held = onnx.ModelProto()
        held.graph.initializer.add(
            name="w", data_type=1, dims=[2], raw_data=hashlib.sha256(content).digest()
        )
        assert digests[-1] == structure_digest(held, [], "")
        assert tensors.place_of(tensor) is not None
    assert digests[0] == digests[1] != digests[2]
