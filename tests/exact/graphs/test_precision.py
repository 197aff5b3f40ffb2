"""A graph in FP32 and FP16, and with Q/DQ pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.graphs import precision
from tests.exact.graphs.common import convolution, ends, model, node, quantized, types


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
