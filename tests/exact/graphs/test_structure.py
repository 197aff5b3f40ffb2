"""Graphs in another precision, and without some weights: node by node and value by value."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.graphs import inspect, precision, session, simplify
from enginery.graphs.inspect import GraphInfo, Profile, TensorInfo
from enginery.graphs.structure import save_weights, structure_digest


def node(
    kind: str, inputs: str, outputs: str, name: str = "", **attributes: object
) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(","), outputs.split(), name or outputs, **attributes)


def model(*nodes: onnx.NodeProto, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    """x (1, 2, 4, 4) to y, both float32."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, list("abcd"))]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "g", ends, out, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in {
        "names": "{0: 'a'}",
        "stride": "32",
        "task": "detect",
        "kpt_shape": "[1, 2]",
        "date": "now",
    }.items():
        made.metadata_props.add(key=key, value=value)
    return made


def convolution(opset: int = 17) -> onnx.ModelProto:
    weights = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2) / 7
    return model(node("Conv", "x,w", "c"), node("Relu", "c", "y"), opset=opset, w=weights)


def types(found: onnx.ModelProto) -> dict[str, str]:
    kinds = TensorProto.DataType.Name
    return {tensor.name: kinds(tensor.data_type) for tensor in found.graph.initializer}


def ends(found: onnx.ModelProto) -> list[str]:
    values = [*found.graph.input, *found.graph.output]
    return [TensorProto.DataType.Name(value.type.tensor_type.elem_type) for value in values]


def metadata(found: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in found.metadata_props}


KEPT = {"names": "{0: 'a'}", "stride": "32", "task": "detect", "kpt_shape": "[1, 2]"}


def test_constants() -> None:
    assert (precision.HALF_SCALES_OPSET, precision._HALF_SCALES_IR) == (19, 10)


def test_fp32_is_the_graph_as_it_is(tmp_path: Path) -> None:
    given = convolution()
    onnx.save(given, tmp_path / "a.onnx")
    assert precision.write_fp32(tmp_path / "a.onnx", tmp_path / "out" / "b.onnx") == {"casts": 0}
    found = onnx.load(tmp_path / "out/b.onnx")
    assert [(each.op_type, each.input, each.output) for each in found.graph.node] == [
        (each.op_type, each.input, each.output) for each in given.graph.node
    ]
    assert found.graph.initializer == given.graph.initializer
    assert (metadata(found), found.producer_name) == (KEPT, "enginery")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.onnx"]


def test_fp16_is_half_inside_and_float32_at_its_ends(tmp_path: Path) -> None:
    onnx.save(convolution(), tmp_path / "a.onnx")
    assert precision.write_fp16(tmp_path / "a.onnx", tmp_path / "b.onnx") == {"casts": 2}
    found = onnx.load(tmp_path / "b.onnx")
    assert (types(found), ends(found), metadata(found)) == (
        {"w": "FLOAT16"},
        ["FLOAT", "FLOAT"],
        KEPT,
    )
    weights = numpy_helper.to_array(found.graph.initializer[0])
    expected = (np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2) / 7).astype(np.float16)
    assert np.array_equal(weights, expected)
    assert [each.op_type for each in found.graph.node] == ["Cast", "Conv", "Relu", "Cast"]
    assert len(found.graph.value_info) == 0
    onnx.checker.check_model(found, full_check=True)


def test_what_cannot_be_cast_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("it\n is   " + "x" * 400)

    monkeypatch.setattr("onnxconverter_common.float16.convert_float_to_float16", fail)
    onnx.save(convolution(), tmp_path / "a.onnx")
    with pytest.raises(ModelError) as error:
        precision.write_fp16(tmp_path / "a.onnx", tmp_path / "b.onnx")
    reason = f"it is {'x' * 294}"
    assert len(reason) == 300
    assert (
        str(error.value) == f"{tmp_path}/a.onnx cannot be cast to fp16: {reason}. Build it in fp32"
    )
    assert not (tmp_path / "b.onnx").exists()


def test_a_weight_too_small_for_fp16_is_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    weights = np.full((2, 2, 1, 1), 1e-10, np.float32)
    found = precision.to_fp16(model(node("Conv", "x,w", "y"), w=weights), "it")
    assert types(found)["w"] == "FLOAT16"
    assert [str(each.message) for each in recwarn.list if "truncate" in str(each.message)] == []


def test_a_cast_of_its_own_becomes_one_to_half_but_not_at_the_end() -> None:
    shape = np.array([1, 2, 4, 4], np.int64)
    inner = model(
        node("Cast", "x", "i", "own", to=TensorProto.INT32),
        node("Cast", "i", "f", "back", to=TensorProto.FLOAT),
        node("Add", "f,c", "a"),
        node("Reshape", "a,s", "y"),
        c=np.ones(1, np.float32),
        s=shape,
    )
    found = precision.to_fp16(inner, "it")
    casts = {each.name: each.attribute[0].i for each in found.graph.node if each.op_type == "Cast"}
    assert casts["own"] == TensorProto.INT32
    assert casts["back"] == TensorProto.FLOAT16
    last = model(
        node("Cast", "x", "i", "own", to=TensorProto.INT32),
        node("Cast", "i", "y", "back", to=TensorProto.FLOAT),
    )
    found = precision.to_fp16(last, "it")
    assert [each.attribute[0].i for each in found.graph.node if "y" in each.output] == [
        TensorProto.FLOAT
    ]
    assert ends(found) == ["FLOAT", "FLOAT"]


def test_a_cast_is_told_from_the_converters() -> None:
    made = model(node("Cast", "x", "a", "own", to=TensorProto.FLOAT), node("Relu", "a", "y"))
    made.graph.node.append(node("Cast", "y", "z", "other", to=TensorProto.FLOAT))
    precision._cast_to_half(made, {"own"})
    assert [each.attribute[0].i for each in made.graph.node if each.op_type == "Cast"] == [
        TensorProto.FLOAT16,
        TensorProto.FLOAT,
    ]
    made = model(node("Cast", "x", "y", "own", to=TensorProto.FLOAT))
    precision._cast_to_half(made, {"own"})
    assert made.graph.node[0].attribute[0].i == TensorProto.FLOAT  # it is the graph's output
    made = model(node("Cast", "x", "a", "own", to=TensorProto.INT64), node("Relu", "a", "y"))
    precision._cast_to_half(made, {"own"})
    assert made.graph.node[0].attribute[0].i == TensorProto.INT64


def test_a_resize_runs_in_half_with_factors_of_float32() -> None:
    factors, region = (
        np.array([1, 1, 2, 2], np.float32),
        np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
    )
    made = model(
        node("Resize", "x,region,factors", "r", mode="nearest"),
        node("Conv", "r,w", "y"),
        region=region,
        factors=factors,
        w=np.ones((2, 2, 1, 1), np.float32),
    )
    found = precision.to_fp16(made, "it")
    assert types(found) == {"region": "FLOAT", "factors": "FLOAT", "w": "FLOAT16"}
    values = {
        tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in found.graph.initializer
    }
    assert (values["region"], values["factors"]) == (region.tolist(), factors.tolist())
    assert [each.op_type for each in found.graph.node] == ["Cast", "Resize", "Conv", "Cast"]
    onnx.checker.check_model(found, full_check=True)


def test_factors_may_be_a_constant_and_sizes_are_left_alone() -> None:
    factors = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "value")
    made = model(
        node("Constant", "", "factors", value=factors),
        node("Resize", "x,,factors", "r", mode="nearest"),
        node("Resize", "r,,,sizes", "y", mode="nearest"),
        sizes=np.array([1, 2, 4, 4], np.int64),
    )
    del made.graph.node[0].input[:]
    found = precision.to_fp16(made, "it")
    [constant] = [each for each in found.graph.node if each.op_type == "Constant"]
    assert constant.attribute[0].t.data_type == TensorProto.FLOAT
    assert numpy_helper.to_array(constant.attribute[0].t).tolist() == [1, 1, 2, 2]
    assert types(found) == {"sizes": "INT64"}


def test_data_of_a_resize_that_is_a_weight_becomes_half() -> None:
    factors = np.array([1, 1, 2, 2], np.float32)
    made = model(
        node("Resize", "d,,factors", "r", mode="nearest"),
        node("Add", "x,r", "y"),
        d=np.ones((1, 2, 2, 2), np.float32),
        factors=factors,
    )
    assert types(precision.to_fp16(made, "it")) == {"d": "FLOAT16", "factors": "FLOAT"}


def quantized(opset: int) -> onnx.ModelProto:
    return model(
        node("QuantizeLinear", "x,s,z", "q"),
        node("DequantizeLinear", "q,s,z", "d"),
        node("Relu", "d", "y"),
        opset=opset,
        s=np.array(0.5, np.float32),
        z=np.array(0, np.int8),
    )


@pytest.mark.parametrize(
    ("opset", "expected", "ir"), [(13, 19, 10), (18, 19, 10), (19, 19, 8), (20, 20, 8)]
)
def test_a_graph_of_qdq_pairs_gets_an_opset_with_half_scales(
    opset: int, expected: int, ir: int
) -> None:
    found = precision.to_fp16(quantized(opset), "it")
    assert (found.opset_import[0].version, found.ir_version) == (expected, ir)
    assert types(found) == {"s": "FLOAT16", "z": "INT8"}
    assert metadata(found) == {**KEPT, "date": "now"}


def test_a_newer_ir_stays_and_a_graph_without_pairs_keeps_its_opset() -> None:
    made = quantized(17)
    made.ir_version = 11
    assert precision.to_fp16(made, "it").ir_version == 11
    plain = precision.to_fp16(convolution(13), "it")
    assert (plain.opset_import[0].version, plain.ir_version) == (13, 8)
    other = quantized(17)
    other.opset_import.append(helper.make_opsetid("own", 40))
    assert precision._with_half_scales(other).opset_import[0].version == 19


# Structure


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


# Sessions


def test_how_a_session_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[Any] = []

    def make(source: Any, options: Any, providers: Any) -> Any:
        entry = options.get_session_config_entry("session.disable_quant_qdq")
        opened.append(
            (
                source,
                options.log_severity_level,
                options.intra_op_num_threads,
                entry,
                list(providers),
            )
        )
        return SimpleNamespace(get_providers=lambda: list(providers))

    monkeypatch.setattr(session.onnxruntime, "InferenceSession", make)
    monkeypatch.setattr(
        session.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    made = convolution()
    session.open_session(tmp_path / "a.onnx", 3)
    session.open_session(tmp_path / "a.onnx")
    session.open_model(made, "it", 2)
    cpu = ["CPUExecutionProvider"]
    assert opened == [
        (str(tmp_path / "a.onnx"), 4, 3, "1", cpu),
        (str(tmp_path / "a.onnx"), 4, 0, "1", cpu),
        (made.SerializeToString(), 4, 2, "1", cpu),
    ]


def test_what_onnx_runtime_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("it\n  is " + "x" * 400)

    monkeypatch.setattr(session.onnxruntime, "InferenceSession", fail)
    reason = "it is " + "x" * 294
    for use, what in (
        (lambda: session.open_session(tmp_path / "a"), tmp_path / "a"),
        (lambda: session.open_model(convolution(), "it"), "it"),
    ):
        with pytest.raises(ModelError) as error:
            use()
        assert str(error.value) == (
            f"ONNX Runtime does not take {what}: {reason}. Export the model again, or replace what it names"
        )


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_CORES", 8)
    assert [session.threads_beside(workers) for workers in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]
    assert min(4, session.WORKERS) >= 1


# The simplifier's process


def test_the_simplifier_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Any] = []

    def run(command: list[str], **named: Any) -> Any:
        assert command[-2:] == ["a.onnx", "b.onnx"]
        assert (command[0], named["timeout"], named["check"]) == (sys.executable, 9.5, False)
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return SimpleNamespace(returncode=end[0], stderr=end[1], stdout="")

    monkeypatch.setattr(simplify.subprocess, "run", run)
    ends += [
        (0, ""),
        (3, "one\ntwo\n\n"),
        (-11, ""),
        subprocess.TimeoutExpired(["x"], 9.5),
    ]
    found = [simplify._run(Path("a.onnx"), Path("b.onnx"), 9.5) for _ in range(4)]
    assert found == [
        "",
        "onnxsim ended with 3: two",
        "onnxsim ended with -11: it said nothing",
        "onnxsim was stopped at its time limit of 9.5 s",
    ]


def test_the_simplifier_writes_its_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    onnx.save(convolution(), tmp_path / "a.onnx")
    asked: list[Any] = []
    fake = SimpleNamespace(simplify=lambda given: asked.append(given) or (convolution(18), True))
    monkeypatch.setitem(sys.modules, "onnxsim", fake)
    simplify._main(str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"))
    assert onnx.load(tmp_path / "b.onnx") == convolution(18)
    assert asked == [convolution()]
    assert json.dumps(simplify.MAX_DIFFERENCE) == "0.0001"


def test_a_simplified_graph_that_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> Any:
        raise ModelError("it cannot run", "mend it")

    monkeypatch.setattr(simplify, "_run_all", fail)
    found = simplify._compare(Path("a"), Path("b"), [])
    assert found == {"simplified": False, "reason": "it cannot run. mend it"}


def test_a_difference_at_the_limit_is_none() -> None:
    limit = simplify.MAX_DIFFERENCE
    one = [np.array([1.0])]
    assert simplify._difference(one, [np.array([1.0]) + 0]) == ("", 0.0)
    exact = [np.array([0.0, 1.0])], [np.array([limit, 1.0])]
    assert simplify._difference(*exact) == ("", limit)


def test_a_large_graph_is_simplified_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxsim

    asked: list[Any] = []
    (tmp_path / "a.onnx.data").touch()
    monkeypatch.setattr(onnxsim, "simplify", lambda *given, **named: asked.append((given, named)))
    simplify._main(str(tmp_path / "a.onnx"), "b.onnx")
    assert asked == [((str(tmp_path / "a.onnx"),), {"output_path": "b.onnx"})]


def test_onnxsim_is_read_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(command: Any, **named: Any) -> Any:
        asked.append(named)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(simplify.subprocess, "run", run)
    simplify._run(Path("a"), Path("b"), 9.5)
    assert asked == [
        {"capture_output": True, "text": True, "errors": "replace", "timeout": 9.5, "check": False}
    ]


def test_an_operator_is_described_with_its_domain() -> None:
    from enginery.graphs.inspect import _described

    assert _described(helper.make_node("Op", ["x"], ["y"], "n", domain="own")) == "own.Op (node n)"
    assert _described(helper.make_node("Op", ["x"], ["y"])) == "Op (node y)"


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
