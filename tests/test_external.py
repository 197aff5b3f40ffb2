"""External data: weights beside a graph's file, of graphs small enough to be merged and of those
that stay two files.

A graph is large here from a few kilobytes on; benchmarks/trouble/large_graph.py takes one above 2
GB.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import DiskFullError, ModelError
from enginery.graphs import data_files, external, tensors
from enginery.graphs.inspect import read_graph
from enginery.graphs.precision import write_fp16, write_fp32
from enginery.graphs.session import open_model, open_session
from enginery.graphs.structure import save_weights, structure_digest
from enginery.project.load import load_spec
from enginery.project.paths import model_folder
from enginery.project.stage import Stage
from enginery.quantization.placement import Placement, place
from enginery.quantization.sensitivity import rank
from enginery.sources.export import ExportSettings, export
from enginery.system.files import read_json, sha256
from enginery.toolchain.client import build
from enginery.toolchain.requests import BuildRequest
from tests.conftest import copy_checkout, small, use_onnx
from tests.stages import fingerprinted, recipes_of, stages_of

SETTINGS = ExportSettings("detect")
MODEL = "yolov8n-shapes"
LIMIT = 10_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's graph in one file."""
    path = tmp_path_factory.mktemp("whole") / "model.onnx"
    weights = Path(__file__).resolve().parents[1] / "data/demo/yolov8n-shapes.pt"
    export(weights, ExportSettings("detect", (64, 96), 1, False, 17), path)
    return path


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether graphs above a few kilobytes are large from now on."""

    def switch(on: bool) -> None:
        monkeypatch.setattr(external, "LARGEST", LIMIT if on else 1_900_000_000)

    switch(True)
    return switch


def split(whole: Path, folder: Path, name: str = "model.onnx_data") -> Path:
    """The graph with its data in a file beside it; "" for a file for each tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "all_tensors_to_one_file": bool(name),
        "location": name or None,
        "size_threshold": 100,
    }
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(whole), folder / "own.onnx", save_as_external_data=True, **options)
    assert (folder / "own.onnx").stat().st_size < 0.02 * whole.stat().st_size
    return folder / "own.onnx"


def merged(graph: Path, out: Path) -> bytes:
    """A graph of two files as one."""
    external.write_graph(read_graph(graph), out)
    return out.read_bytes()


@pytest.mark.parametrize(
    "name", ["model.onnx_data", "", "weights/ü 1.bin"], ids=["one", "many", "in a folder"]
)
def test_a_source_with_data_beside_it_becomes_the_same_graph(
    whole: Path, tmp_path: Path, name: str
) -> None:
    source = split(whole, tmp_path / "source", name)
    facts = export(source, SETTINGS, tmp_path / "export/model.onnx")
    assert sha256(tmp_path / "export/model.onnx") == sha256(whole)
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["model.onnx"]
    files = {
        path.relative_to(source.parent).as_posix(): sha256(path)
        for path in source.parent.rglob("*")
        if path.is_file()
    }
    assert facts["source_data"] == {
        name: digest for name, digest in files.items() if name != "own.onnx"
    }
    assert (
        facts["source_sha256"]
        == data_files.source_digest(source, facts["source_data"])
        != sha256(source)
    )
    assert facts["nodes"] > 100


def test_a_digest_covers_the_data(whole: Path, tmp_path: Path) -> None:
    source = split(whole, tmp_path)
    before = data_files.data_digests(source)
    with (tmp_path / "model.onnx_data").open("r+b") as file:
        file.seek(5000)
        file.write(b"!")
    after = data_files.data_digests(source)
    assert before.keys() == after.keys() == {"model.onnx_data"}
    assert data_files.source_digest(source, before) != data_files.source_digest(source, after)
    assert data_files.data_digests(whole) == {}
    assert data_files.source_digest(whole, {}) == sha256(whole)


def test_the_recipe_of_an_export_names_the_data(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC's stage depends on the graph's own file alone."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((Path(__file__).resolve().parents[1] / "params.yaml").read_text())
    use_onnx(params, "own.onnx")
    Path("params.yaml").write_text(yaml.safe_dump(params))

    def parameters() -> Any:
        return recipes_of(load_spec())[Stage("export", MODEL).recipe]["parameters"]

    plain = {"source": "own.onnx", "task": "detect"}
    assert parameters() == plain  # it is not even there: the export says so
    split(whole, tmp_path)
    assert parameters() == {**plain, "data": {"model.onnx_data": sha256(Path("model.onnx_data"))}}
    Path("model.onnx_data").unlink()
    assert parameters() == {**plain, "data": {"model.onnx_data": "missing"}}
    shutil.copyfile(whole, "own.onnx")
    assert parameters() == plain
    Path("own.onnx").write_bytes(b"location of nothing")
    assert parameters() == plain
    Path("own.onnx").unlink()
    os.mkfifo("own.onnx")  # nobody waits for a writer
    assert parameters() == plain


def remove(source: Path) -> str:
    source.with_name("model.onnx_data").unlink()
    return (
        "own.onnx: its data file {folder}/model.onnx_data cannot be read: No such file or directory"
    )


def cut(source: Path) -> str:
    os.truncate(source.with_name("model.onnx_data"), 20_000)
    return "own.onnx: its data file {folder}/model.onnx_data has 20000 bytes, "


def fifo(source: Path) -> str:
    source.with_name("model.onnx_data").unlink()
    os.mkfifo(source.with_name("model.onnx_data"))
    return "own.onnx: its data file {folder}/model.onnx_data is no plain file"


def renamed(**fields: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        model = onnx.load(source, load_external_data=False)
        tensor = next(tensor for tensor in model.graph.initializer if tensors.is_external(tensor))
        for entry in tensor.external_data:
            entry.value = fields.get(entry.key, entry.value)
        source.write_bytes(model.SerializeToString())

    return change


def upwards(source: Path) -> str:
    renamed(location="../model.onnx_data")(source)
    return "lies in '../model.onnx_data', which is no file beside the graph"


def absolute(source: Path) -> str:
    renamed(location="/etc/passwd")(source)
    return "lies in '/etc/passwd', which is no file beside the graph"


def nameless(source: Path) -> str:
    renamed(location="")(source)
    return "lies in '', which is no file beside the graph"


def too_long(source: Path) -> str:
    renamed(length="7")(source)
    return "bytes, and it says 7 from "


def negative(source: Path) -> str:
    renamed(offset="-4096")(source)
    return "from -4096 on in model.onnx_data"


def of_a_huge_shape(source: Path) -> str:
    model = onnx.load(source, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensors.is_external(tensor))
    tensor.dims[:] = [1 << 40, 1 << 40]
    for entry in tensor.external_data:
        if entry.key == "length":
            entry.value = str(1 << 82)
    source.write_bytes(model.SerializeToString())
    return "are needed: it was cut off, or is another graph's"


@pytest.mark.parametrize("limit", [LIMIT, 1_900_000_000], ids=["large", "small"])
@pytest.mark.parametrize(
    "damage",
    [
        remove,
        cut,
        fifo,
        upwards,
        absolute,
        nameless,
        too_long,
        negative,
        of_a_huge_shape,
    ],
)
def test_bad_data_is_one_line(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, limit: int
) -> None:
    monkeypatch.setattr(external, "LARGEST", limit)
    folder = tmp_path / "source"
    words = damage(split(whole, folder)).format(folder=folder)
    with pytest.raises(ModelError) as error:
        export(folder / "own.onnx", SETTINGS, tmp_path / "export/model.onnx")
    assert words in str(error.value)
    assert str(folder / "own.onnx") in str(error.value)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "export").iterdir()) == []


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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = copy_checkout(tmp_path / "checkout ü")
    monkeypatch.chdir(root)
    params = yaml.safe_load(Path("params.yaml").read_text())
    small(params)
    params["models"][MODEL].update(height=64, width=96)
    params["matrix"]["targets"] = ["rtx-ada"]
    use_onnx(params, "data/own.onnx")
    Path("params.yaml").write_text(yaml.safe_dump(params))
    yield root


def test_every_step_takes_a_large_graph_and_makes_what_it_makes_of_a_small_one(
    whole: Path,
    checkout: Path,
    large: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasks.build import build as build_step
    from tasks.calibrate import calibrate
    from tasks.calibration_images import list_calibration_images
    from tasks.demo_data import demo_data
    from tasks.export import export_model
    from tasks.images import list_validation_images
    from tasks.quantize import quantize
    from tasks.register import register
    from tasks.simplify import simplify_model
    from tasks.validate import validate

    split(whole, Path("data"))
    work: dict[str, Callable[[Stage], None]] = {
        "demo-data": demo_data,
        "export": export_model,
        "images": list_validation_images,
        "simplify": simplify_model,
        "calibration-images": list_calibration_images,
        "calibrate": calibrate,
        "quantize": quantize,
        "validate": validate,
        "build": build_step,
        "register": register,
    }
    spec = load_spec()
    made: dict[bool, dict[str, bytes]] = {}
    for on in (True, False):
        large(on)
        fingerprinted()
        for step in stages_of(spec):
            if step.step in work and (
                on
                or step.step
                not in ("demo-data", "images", "calibration-images", "validate", "register")
            ):
                work[step.step](step)
        large(False)
        folders = [
            model_folder(MODEL, part)
            for part in ("export", "simplify", "fp32/graph", "fp16/graph", "int8/graph")
        ]
        assert [(folder / "model.onnx.data").exists() for folder in folders] == [on] * 5
        made[on] = {
            str(folder): merged(folder / "model.onnx", Path("merged.onnx")) for folder in folders
        }
        made[on]["cache"] = (model_folder(MODEL, "calibration") / "calibration.cache").read_bytes()
        made[on] |= {
            str(path): path.read_bytes() for path in Path("artifacts/build").rglob("model.plan")
        }
        if on:
            assert read_json(model_folder(MODEL, "simplify") / "record.json")["simplified"]
    assert len(made[True]) == 9
    assert {name for name in made[True] if made[True][name] != made[False][name]} == set()
    assert len(list(Path("artifacts/engines").rglob("model.plan"))) == 3


def test_data_that_changes_during_a_run_is_noticed(whole: Path, checkout: Path) -> None:
    from tasks.export import export_model

    split(whole, Path("data"))
    fingerprinted()
    with Path("data/model.onnx_data").open("r+b") as file:
        file.write(b"!")
    with pytest.raises(
        ModelError, match=r"the data files of data/own.onnx changed since this run began. Run again"
    ):
        export_model(Stage("export", MODEL))
    assert not (model_folder(MODEL, "export")).exists()


def test_a_simplifier_without_room_is_no_reason_to_go_on_without_it(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another graph for want of room would be another engine."""
    from enginery.graphs import simplify as module

    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    assert "onnxsim ended with 1" in module._run(whole, tmp_path / "out.onnx", 10)
    child = tmp_path / "child"
    child.write_text("#!/bin/sh\nexit 28\n")
    child.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(child))
    with pytest.raises(DiskFullError, match=f"no room to write {tmp_path}/out.onnx"):
        module._run(whole, tmp_path / "out.onnx", 10)
