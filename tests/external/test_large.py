"""Graphs above the limit of one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.graphs import external, tensors
from enginery.graphs.inspect import read_graph
from enginery.graphs.precision import write_fp16, write_fp32
from enginery.graphs.session import open_model, open_session
from enginery.graphs.structure import save_weights, structure_digest
from enginery.quantization.placement import Placement, place
from enginery.quantization.sensitivity import rank
from enginery.sources.export import export
from enginery.system.files import sha256
from enginery.toolchain.client import build
from enginery.toolchain.requests import BuildRequest
from tests.external.common import SETTINGS, merged, split


def test_a_large_graph_is_two_files_wherever_it_was_made(
    whole: Path, tmp_path: Path, large: Any
) -> None:
    made = []
    for folder in (tmp_path / "a", tmp_path / "b ü"):
        export(split(whole, folder / "source"), SETTINGS, folder / "model.onnx")
        assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
            "model.onnx",
            "model.onnx.data",
        ]
        made.append((sha256(folder / "model.onnx"), sha256(folder / "model.onnx.data")))
    assert made[0] == made[1]
    model = onnx.load(tmp_path / "a/model.onnx", load_external_data=False)
    [digest] = [entry.value for entry in model.metadata_props if entry.key == external.DIGEST]
    assert digest == made[0][1]
    outside = [tensor for tensor in model.graph.initializer if tensors.is_external(tensor)]
    assert {
        entry.value
        for tensor in outside
        for entry in tensor.external_data
        if entry.key == "location"
    } == {"model.onnx.data"}
    assert all(
        int(entry.value) % 4096 == 0
        for tensor in outside
        for entry in tensor.external_data
        if entry.key == "offset"
    )
    large(False)
    assert merged(tmp_path / "a/model.onnx", tmp_path / "c.onnx") == whole.read_bytes()


def test_what_is_written_over_a_large_graph_leaves_no_data(
    whole: Path, tmp_path: Path, large: Any
) -> None:
    external.write_graph(read_graph(whole), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists()
    large(False)
    external.write_graph(read_graph(whole), tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_graph_that_fails_its_check_takes_no_place(whole: Path, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ModelError("refused")

    with pytest.raises(ModelError, match="refused"):
        external.write_graph(read_graph(whole), tmp_path / "m.onnx", refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("convert", [write_fp32, write_fp16])
def test_every_precision_of_a_large_graph_is_that_of_a_small_one(
    whole: Path, tmp_path: Path, large: Any, convert: Any
) -> None:
    external.write_graph(read_graph(whole), tmp_path / "large.onnx")
    facts = convert(tmp_path / "large.onnx", tmp_path / "made.onnx")
    assert (tmp_path / "made.onnx.data").exists()
    large(False)
    assert convert(whole, tmp_path / "small.onnx") == facts
    assert (
        merged(tmp_path / "made.onnx", tmp_path / "merged.onnx")
        == (tmp_path / "small.onnx").read_bytes()
    )
    image = {"images": np.random.default_rng(0).random((1, 3, 64, 96), np.float32)}
    [[one], [two]] = [
        open_session(tmp_path / name).run(None, image) for name in ("made.onnx", "small.onnx")
    ]
    assert np.array_equal(one, two)


def test_a_large_graph_builds_the_same_plan(whole: Path, tmp_path: Path, large: Any) -> None:
    external.write_graph(read_graph(whole), tmp_path / "ü large.onnx")
    request = BuildRequest(
        "tensorrt_rtx", whole, tmp_path / "a.plan", "m", compute_capability="8.6"
    )
    made = build(Path(".venv/bin/python"), request, lambda event: None, 300)
    other = BuildRequest(
        "tensorrt_rtx",
        tmp_path / "ü large.onnx",
        tmp_path / "b.plan",
        "m",
        compute_capability="8.6",
    )
    assert (
        build(Path(".venv/bin/python"), other, lambda event: None, 300).plan_sha256
        == made.plan_sha256
    )


def test_a_large_graph_in_memory_runs(whole: Path, tmp_path: Path, large: Any) -> None:
    external.write_graph(read_graph(whole), tmp_path / "large.onnx")
    model = read_graph(tmp_path / "large.onnx")
    assert model.ByteSize() < 0.02 * whole.stat().st_size
    image = {"images": np.random.default_rng(0).random((1, 3, 64, 96), np.float32)}
    [one], [two] = open_model(model, "it").run(None, image), open_session(whole).run(None, image)
    assert np.array_equal(one, two)
    # As `enginery sensitivity` runs it: a layer's weights are in memory, the others on the disk.
    layer = next(name for name in place(model.graph).nodes)
    only = Placement({layer: place(model.graph).nodes[layer]}, {}, ())
    thresholds = dict.fromkeys(only.activations(model.graph), 1.0)
    costs = [
        rank(given, only, thresholds, [image], lambda done, total: None)
        for given in (model, read_graph(whole))
    ]
    assert costs[0] == costs[1]
    assert costs[0][0].cost > 0


def test_the_structure_of_a_large_graph_counts_its_weights_and_not_where_they_lie(
    whole: Path,
    tmp_path: Path,
    large: Any,
) -> None:
    digests = []
    for name, change in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        model = read_graph(whole)
        first = max(model.graph.initializer, key=tensors.byte_count)
        first.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(first) + np.float32(change), first.name)
        )
        external.write_graph(model, tmp_path / name / "m.onnx")
        found = read_graph(tmp_path / name / "m.onnx")
        digests.append([structure_digest(found, names, "") for names in ((), {first.name})])
    [[all_a, rest_a], [all_b, rest_b], [all_c, rest_c]] = digests
    assert all_a == all_b != all_c
    assert rest_a == rest_b == rest_c
    save_weights(found, {first.name}, tmp_path / "w.npz", "weights/")
    with np.load(tmp_path / "w.npz") as saved:
        assert np.array_equal(saved[f"weights/{first.name}"], tensors.values(first))


def one_convolution(kind: int, values: np.ndarray[Any, Any]) -> onnx.ModelProto:
    weights = numpy_helper.from_array(values, "w")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["f"]),
        helper.make_node("Conv", ["x", "f"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64, 8, 8]) for name in "xy"]
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "s")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights, scale])
    assert weights.data_type == kind
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_weights_of_half_a_byte(tmp_path: Path, large: Any) -> None:
    import ml_dtypes

    values = np.random.default_rng(0).integers(-8, 8, (64, 64, 7, 7)).astype(ml_dtypes.int4)
    external.write_graph(one_convolution(TensorProto.INT4, values), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size == values.size // 2
    [tensor, _] = onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer
    assert tensors.place_of(tensor) == tensors.Place(Path("m.onnx.data"), 0, values.size // 2)
    tensors.refer(tensor, tensors.Place(tmp_path / "m.onnx.data", 0, values.size // 2))
    assert np.array_equal(tensors.values(tensor), values)
