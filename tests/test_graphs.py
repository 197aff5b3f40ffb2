"""Graphs: export, simplification and precision with real networks, and every
bad file in one line.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from enginery.errors import ModelError
from enginery.evaluation.compare import Accumulator
from enginery.graphs.inspect import Profile, check_profile, graph_info, read_graph
from enginery.graphs.precision import write_fp16, write_fp32
from enginery.graphs.session import open_session
from enginery.graphs.simplify import _compare, simplify
from enginery.sources.export import ExportSettings, export
from enginery.system.files import sha256
from enginery.vision.feeds import feeds
from enginery.vision.images import list_images

WEIGHTS = Path(__file__).resolve().parents[1] / "data/demo/yolov8n-shapes.pt"
SMALL = ExportSettings("detect", (64, 96), 1, False, 17)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    facts = export(WEIGHTS, SMALL, path)
    assert (facts["stride"], facts["names"]["3"], facts["opset"]) == (32, "star", 17)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from enginery.demo.dataset import write_dataset

    folder = tmp_path_factory.mktemp("images")
    write_dataset(folder, range(3), 96)
    return folder


def test_export_is_the_same_in_another_process(exported: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from enginery.sources.export import *;"
        "export(Path(sys.argv[1]), ExportSettings('detect', (64, 96), 1, False, 17), Path(sys.argv[2]))"
    )
    copy = tmp_path / "elsewhere ü.pt"
    copy.write_bytes(WEIGHTS.read_bytes())
    subprocess.run(
        [sys.executable, "-c", code, str(copy), str(tmp_path / "model.onnx")], check=True
    )
    assert sha256(tmp_path / "model.onnx") == sha256(exported)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere ü.pt", "model.onnx"]


def test_dynamic_export_leaves_batch_and_size_open(tmp_path: Path) -> None:
    export(WEIGHTS, ExportSettings("detect", (64, 64), 1, True, 17), tmp_path / "d.onnx")
    info = graph_info(tmp_path / "d.onnx")
    assert [isinstance(size, int) for size in info.inputs[0].shape] == [False, True, False, False]
    write_fp16(tmp_path / "d.onnx", tmp_path / "h.onnx")
    image = np.random.default_rng(0).random((2, 3, 96, 64), dtype=np.float32)
    [found] = open_session(tmp_path / "h.onnx").run(None, {"images": image})
    assert found.shape[0] == 2


def test_own_onnx_is_taken_as_it_is(exported: Path, tmp_path: Path) -> None:
    facts = export(exported, SMALL, tmp_path / "own.onnx")
    assert facts["names"]["0"] == "disc"
    assert sha256(tmp_path / "own.onnx") == sha256(exported)


def test_simplified_graph_is_equal_and_deterministic(
    exported: Path, images: Path, tmp_path: Path
) -> None:
    facts = simplify(
        exported,
        tmp_path / "a.onnx",
        feeds(exported, list_images(images, "detect")[:2], "detect", SMALL.imgsz),
        120,
    )
    assert facts["simplified"]
    assert facts["max_difference"] < 1e-4
    simplify(
        exported,
        tmp_path / "b.onnx",
        feeds(exported, list_images(images, "detect")[:1], "detect", SMALL.imgsz),
        120,
    )
    assert sha256(tmp_path / "a.onnx") == sha256(tmp_path / "b.onnx")


def test_without_onnxsim_the_original_goes_on(exported: Path, images: Path, tmp_path: Path) -> None:
    facts = simplify(
        exported,
        tmp_path / "a.onnx",
        feeds(exported, list_images(images, "detect")[:1], "detect", SMALL.imgsz),
        0.01,
    )
    assert (facts["simplified"], "time limit" in facts["reason"]) == (False, True)
    assert sha256(tmp_path / "a.onnx") == sha256(exported)


def test_fp16_is_half_the_size_and_close(exported: Path, images: Path, tmp_path: Path) -> None:
    write_fp32(exported, tmp_path / "s.onnx")
    write_fp16(exported, tmp_path / "h.onnx")
    assert (tmp_path / "h.onnx").stat().st_size < 0.6 * (tmp_path / "s.onnx").stat().st_size
    single, to_fp16, added = (
        open_session(tmp_path / "s.onnx"),
        open_session(tmp_path / "h.onnx"),
        Accumulator(),
    )
    for feed in feeds(exported, list_images(images, "detect"), "detect", SMALL.imgsz):
        added.add(single.run(None, feed), to_fp16.run(None, feed))
    closeness = added.closeness()
    assert 0 < closeness.rms_relative < 0.01
    assert closeness.nan_count == closeness.inf_count == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "is no usable Ultralytics model"),
        (b"no pickle", "is no usable Ultralytics model"),
        ("cut", "is no usable Ultralytics model"),
    ],
)
def test_bad_weights(tmp_path: Path, content: bytes | str | None, words: str) -> None:
    path = tmp_path / "weights.pt"
    if content is not None:
        path.write_bytes(WEIGHTS.read_bytes()[:100_000] if isinstance(content, str) else content)
    with pytest.raises(ModelError, match=words) as error:
        export(path, SMALL, tmp_path / "model.onnx")
    assert str(path) in str(error.value)
    assert not (tmp_path / "model.onnx").exists()


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    import torch

    torch.save({"weights": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="is no usable Ultralytics model"):
        export(tmp_path / "weights.pt", SMALL, tmp_path / "model.onnx")


def one_node(operator: str = "Relu", opset: int = 17, kind: int = TensorProto.FLOAT) -> bytes:
    ends = [helper.make_tensor_value_info(name, kind, [1, 3, 32, 32]) for name in "xy"]
    body = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], name="it")], "g", ends[:1], ends[1:]
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x08\x07garbage", "cut off or altered"),
        (one_node(opset=99), "opset 99"),
        (one_node("Frobnicate"), r"Frobnicate \(node it\)"),
        (one_node(kind=TensorProto.DOUBLE), "float64"),
    ],
)
def test_bad_onnx(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_graph(tmp_path / "g.onnx")


def test_truncated_onnx(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(exported.read_bytes()[:-5000])
    with pytest.raises(ModelError):
        read_graph(tmp_path / "g.onnx")


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("image", [(1, 3, 64, 64)] * 3, "no input is called 'image', the graph has images"),
        ("images", [(0, 3, 64, 64)] * 3, "0 is below 1"),
        ("images", [(4, 3, 64, 64), (2, 3, 64, 64), (8, 3, 64, 64)], "min <= opt <= max"),
        ("images", [(1, 4, 64, 64)] * 3, "fixed size 3"),
        ("images", [(1, 3, 65, 64)] * 3, "multiples of the stride, 32"),
        ("images", [(1, 3, 64)] * 3, "4 sizes are expected"),
    ],
)
def test_profiles_that_do_not_fit(
    tmp_path: Path, name: str, shapes: list[tuple[int, ...]], words: str
) -> None:
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", 3, "h", "w"])
        for end in ("images", "y")
    ]
    body = helper.make_graph([helper.make_node("Relu", ["images"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="stride", value="32")
    onnx.save(model, tmp_path / "g.onnx")
    mistakes = check_profile(graph_info(tmp_path / "g.onnx"), {name: Profile(*shapes)})
    assert any(words in mistake for mistake in mistakes)
    assert (
        check_profile(graph_info(tmp_path / "g.onnx"), {"images": Profile(*[(1, 3, 64, 64)] * 3)})
        == []
    )


def one_operator(
    path: Path, operator: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (1, 4)
) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", kind, shape)
    body = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", [x], [y])
    onnx.save(
        helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize(
    ("before", "after", "values", "reason"),
    [
        ("Relu", "Relu", [1, 2, 3, 4], ""),
        ("Identity", "Sqrt", [1, -1, 1, 1], "an output has NaN or infinite values"),
        ("Sqrt", "Identity", [1, -1, 1, 1], "an output has NaN or infinite values"),
        ("Sqrt", "Sqrt", [1, -1, 1, 1], "an output has NaN or infinite values"),
        ("Identity", "Sinh", [0, 0, 0, 1000], "an output has NaN or infinite values"),
        ("Identity", "Neg", [0, 0, 0, 4], "its outputs differ by 2 of the largest value"),
        ("Identity", "Neg", [0, 0, 0, 0], ""),
        ("IsNaN", "IsNaN", [0, 0, 0, 0], ""),
        ("IsNaN", "IsInf", [0, 0, np.inf, 0], "its outputs differ by 1e+12 of the largest value"),
        ("Identity", "Flatten", [1, 2, 3, 4], ""),
        ("Identity", "Shape", [1, 2, 3, 4], "its outputs have other shapes"),
    ],
)
def test_a_simplified_graph_must_give_the_same_outputs(
    tmp_path: Path,
    before: str,
    after: str,
    values: list[float],
    reason: str,
) -> None:
    """NaN is a difference, wherever it comes from: a comparison with it is false, and so is a
    maximum.
    """
    kinds = {
        "IsNaN": (TensorProto.BOOL, (1, 4)),
        "IsInf": (TensorProto.BOOL, (1, 4)),
        "Shape": (TensorProto.INT64, (2,)),
    }
    graphs = []
    for number, operator in enumerate((before, after)):
        kind, shape = kinds.get(operator, (TensorProto.FLOAT, (1, 4)))
        graphs.append(one_operator(tmp_path / f"{number}.onnx", operator, kind, shape))
    # The first image is good: what it gave must not hide the second.
    pair = [{"x": np.array([image], np.float32)} for image in ([0, 0, 0, 0], values)]
    facts = _compare(*graphs, pair)
    assert facts.get("simplified", True) == (not reason)
    assert facts.get("reason", "") == reason
    if not reason:
        assert facts["max_difference"] == 0


def test_a_graph_that_gives_nan_goes_on_as_it_was(tmp_path: Path) -> None:
    source = one_operator(tmp_path / "nan.onnx", "Sqrt")
    facts = simplify(source, tmp_path / "out.onnx", [{"x": np.full((1, 4), -1, np.float32)}], 120)
    assert (facts["simplified"], facts["reason"]) == (False, "an output has NaN or infinite values")
    assert len(read_graph(tmp_path / "out.onnx").graph.node) == 1
