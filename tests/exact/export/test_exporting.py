"""What an export records of a model: names by number, stride, keypoints; and what it asks of
Ultralytics.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import enginery.actions.engine_session
import enginery.actions.predict
import tasks.simplify
from enginery.errors import DataError, ModelError
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job
from enginery.project.load import load_spec
from enginery.project.stage import Stage
from enginery.sources import export
from enginery.sources.export import ExportSettings
from enginery.system.files import write_json
from enginery.toolchain.requests import PointResult


def graph(path: Path, **metadata: str) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "n")], "g", ends[:1], ends[1:])
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in metadata.items():
        made.metadata_props.add(key=key, value=value)
    onnx.save(made, path)
    return made


def settings(task: str = "detect") -> ExportSettings:
    return ExportSettings(task, (8, 8), 1, False, 17)


NAMES = "{0: 'ant', 1: 'bee', 2: 'cat'}"


def test_an_own_graph_with_its_metadata(tmp_path: Path) -> None:
    source, out = tmp_path / "own.onnx", tmp_path / "out" / "model.onnx"
    graph(source, names=NAMES, stride="64", task="pose", kpt_shape="[2, 3]", date="today")
    found = export.export(source, settings("pose"), out)
    expected = {
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "task": "pose",
        "stride": 64,
        "names": {"0": "ant", "1": "bee", "2": "cat"},
        "kpt_shape": [2, 3],
        "opset": 17,
        "nodes": 1,
    }
    assert expected.items() <= found.items()
    kept = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert kept == {"names": NAMES, "stride": "64", "task": "pose", "kpt_shape": "[2, 3]"}


CURE = "Correct batch, height, width, profiles or input of the model in params.yaml"


@pytest.mark.parametrize(
    ("sizes", "name", "mistake"),
    [
        ((1, 3, 8, 8), None, ""),
        ((1, 3, 8, 8), "x", ""),
        (
            (1, 3, 16, 8),
            None,
            "x: axis 2: the graph has the fixed size 8, the profile [16, 16, 16]",
        ),
        ((2, 3, 8, 8), None, "x: axis 0: the graph has the fixed size 1, the profile [2, 2, 2]"),
        ((1, 3, 8, 8), "images", "no input is called 'images', the graph has x"),
    ],
)
def test_an_own_graph_of_other_sizes_than_params_yaml_is_not_exported(
    tmp_path: Path, sizes: tuple[int, ...], name: str | None, mistake: str
) -> None:
    source, out = tmp_path / "own.onnx", tmp_path / "model.onnx"
    graph(source)
    profile = {which: list(sizes) for which in ("min", "opt", "max")}
    asked = replace(settings(), profiles=(profile,), input=name)
    if not mistake:
        export.export(source, asked, out)
        return
    with pytest.raises(ModelError) as error:
        export.export(source, asked, out)
    assert str(error.value) == f"{source}: the profile does not fit: {mistake}. {CURE}"
    assert not out.exists()


OWN_PARAMS = """
matrix: {models: [own], targets: [ada], precisions: [fp16]}
models: {own: {source: own.onnx, validation: set, height: 8, width: 8}}
int8: {}
targets: {ada: {runtime: tensorrt_rtx, compute_capability: "8.9"}}
toolchains: {}
"""


def test_sizes_and_classes_that_changed_since_the_export_are_said_before_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported = Path("artifacts/models/own/export/model.onnx")
    exported.parent.mkdir(parents=True)
    graph(exported)
    write_json(exported.with_name("record.json"), {"task": "detect", "names": {"0": "ant"}})
    image, label = Path("set/images/a.png"), Path("set/labels/a.txt")
    for path in (image, label):
        path.parent.mkdir(parents=True)
    step = Stage("simplify", "own")

    def check(size: int, number: int) -> None:
        Path("params.yaml").write_text(OWN_PARAMS.replace("height: 8", f"height: {size}"))
        label.write_text(f"{number} 0.5 0.5 0.1 0.1\n")
        parameters = tasks.simplify.parameters(Project(load_spec()), step)
        tasks.simplify._check(Job(step, parameters), exported, [image])

    check(8, 0)
    with pytest.raises(
        ModelError,
        match=r"^artifacts/models/own/export/model\.onnx: the profile does not fit: x: axis 2:",
    ):
        check(16, 0)
    with pytest.raises(ModelError, match=r"a\.png: its labels have class 1, the model has 1 cl"):
        check(8, 1)
    write_json(exported.with_name("record.json"), {"task": "detect", "names": {}})
    check(8, 1)


def test_an_own_graph_that_says_nothing(tmp_path: Path) -> None:
    graph(tmp_path / "own.onnx")
    found = export.export(tmp_path / "own.onnx", settings(), tmp_path / "model.onnx")
    assert (found["task"], found["stride"], found["names"]) == ("detect", 32, {})
    assert "kpt_shape" not in found
    assert len(onnx.load(tmp_path / "model.onnx").metadata_props) == 0


WRONG = "its metadata `names`, `stride` or `kpt_shape` is not as Ultralytics writes it"
WRITE = "Write names as {0: 'first', 1: 'second'}, kpt_shape as [17, 3]"


@pytest.mark.parametrize(
    "metadata",
    [
        {"names": "{1: 'a'}"},
        {"names": "{0: 'a', 2: 'c'}"},
        {"names": "['a']"},
        {"names": "{"},
        {"stride": "x"},
        {"stride": "None"},
        {"kpt_shape": "[17, 4]"},
        {"kpt_shape": "[17]"},
        {"kpt_shape": "17"},
        {"names": "{0: 'a'}.keys()"},
    ],
)
def test_metadata_that_is_wrong(tmp_path: Path, metadata: dict[str, str]) -> None:
    source = tmp_path / "own.onnx"
    graph(source, **metadata)
    with pytest.raises(ModelError) as error:
        export.export(source, settings(), tmp_path / "model.onnx")
    assert str(error.value) == f"{source}: {WRONG}. {WRITE}"


def test_a_pose_needs_its_keypoints_and_a_task_is_its_own(tmp_path: Path) -> None:
    source = tmp_path / "own.onnx"
    graph(source, names=NAMES)
    with pytest.raises(ModelError) as error:
        export.export(source, settings("pose"), tmp_path / "model.onnx")
    words = (
        "has no `kpt_shape` in its metadata. Add it as Ultralytics writes it, for example [17, 3]"
    )
    assert str(error.value) == f"{source} {words}"
    graph(source, task="segment")
    with pytest.raises(ModelError) as error:
        export.export(source, settings(), tmp_path / "model.onnx")
    assert str(error.value) == (
        f"{source} is a segment model, not detect. Correct the model's task in params.yaml"
    )
    with pytest.raises(ModelError) as error:
        export.export(tmp_path / "none.pt", settings(), tmp_path / "model.onnx")
    assert (
        str(error.value)
        == f"{tmp_path}/none.pt: no such file. Correct the model's source in params.yaml"
    )


@pytest.mark.parametrize("task", ["detect", "pose"])
def test_weights_are_exported_as_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """Names in any order keep their numbers; the largest stride counts."""
    source = tmp_path / "w.pt"
    source.write_bytes(b"weights")
    graph(tmp_path / "made.onnx", date="today")
    asked: list[Any] = []

    def run(**given: Any) -> str:
        asked.append(given)
        return str(tmp_path / "made.onnx")

    head = SimpleNamespace(kpt_shape=[5, 3])
    model = SimpleNamespace(
        task=task,
        names=OrderedDict([(2, "cat"), (0, "ant"), (1, "bee")]),
        export=run,
        model=SimpleNamespace(stride=[8.0, 32.0, 16.0], model=["other", head]),
    )
    monkeypatch.setattr(export, "_load", lambda *given: model)
    wanted = ExportSettings(task, (64, 96), 4, True, 18)
    found = export.export(source, wanted, tmp_path / "model.onnx")
    expected = {
        "source_sha256": hashlib.sha256(b"weights").hexdigest(),
        "task": task,
        "stride": 32,
        "names": {"0": "ant", "1": "bee", "2": "cat"},
        "opset": 17,
        "nodes": 1,
    }
    assert expected.items() <= found.items()
    assert found.get("kpt_shape") == ([5, 3] if task == "pose" else None)
    assert asked == [
        {
            "format": "onnx",
            "imgsz": [64, 96],
            "batch": 4,
            "dynamic": True,
            "opset": 18,
            "simplify": False,
            "half": False,
            "nms": None,
            "device": "cpu",
            "verbose": False,
        }
    ]
    kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    names = "{'0': 'ant', '1': 'bee', '2': 'cat'}"
    assert kept == {
        "task": task,
        "stride": "32",
        "names": names,
        **({"kpt_shape": "[5, 3]"} if task == "pose" else {}),
    }
    assert [node.name for node in onnx.load(tmp_path / "model.onnx").graph.node] == ["n"]

    def fail(**given: Any) -> str:
        raise RuntimeError("no\n  such opset" + "x" * 400)

    model.export = fail
    with pytest.raises(ModelError) as error:
        export.export(source, wanted, tmp_path / "model.onnx")
    reason = "no such opset" + "x" * 287
    assert (
        str(error.value)
        == f"{source} cannot be exported: {reason}. Try another opset in params.yaml"
    )


def test_outputs_come_in_the_graphs_order(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full(2, number, np.float32))
    result = PointResult(("b", "c", "a"), ())
    found = enginery.actions.engine_session.read_outputs(result, tmp_path, ["a", "b"])
    assert [output.tolist() for output in found] == [[2, 2], [0, 0]]
    assert all(isinstance(output, np.memmap) for output in found)


@pytest.mark.parametrize(
    ("severity", "shown"),
    [("debug", False), ("warning", False), ("error", True), ("info", True), (None, True)],
)
def test_what_tensorrt_remarks_is_left_out(
    monkeypatch: pytest.MonkeyPatch, severity: str | None, shown: bool
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(enginery.actions.engine_session, "emit", seen.append)
    event = {"event": "log", "severity": severity} if severity else {"event": "progress"}
    enginery.actions.engine_session.forward_progress(event)
    assert seen == ([event] if shown else [])


def test_pictures_are_called_as_their_images(tmp_path: Path) -> None:
    paths = [
        Path("a/x.png"),
        Path("b/x.jpg"),
        Path("a/x.png"),
        Path("x-2.png"),
        Path("c/x.webp"),
        Path("y.png"),
    ]
    assert enginery.actions.predict.picture_names(paths) == {
        Path("a/x.png"): "x",
        Path("b/x.jpg"): "x-2",
        Path("x-2.png"): "x-2-2",
        Path("c/x.webp"): "x-3",
        Path("y.png"): "y",
    }


def test_images_and_folders_of_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.txt"):
        (tmp_path / name).write_text("")
    assert enginery.actions.predict._files((tmp_path, Path("z.tif"))) == [
        tmp_path / "a.png",
        tmp_path / "b.JPG",
        Path("z.tif"),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        enginery.actions.predict._files((tmp_path / "empty",))
    assert (
        str(error.value)
        == f"{tmp_path}/empty holds no images. Name .bmp, .jpeg, .jpg, .png, .webp files"
    )


@pytest.mark.parametrize("done", [True, False])
def test_a_graph_is_simplified_and_compared_on_four_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    step, said, asked = Stage("simplify", "m"), list[Any](), list[Any]()
    monkeypatch.setattr(tasks.simplify, "log", lambda *given: said.append(given))
    monkeypatch.setattr(
        tasks.simplify,
        "list_images",
        lambda *given: asked.append(given) or tuple(map(Path, "abcdef")),
    )
    monkeypatch.setattr(tasks.simplify, "_check", lambda *given: asked.append(given))
    monkeypatch.setattr(tasks.simplify, "feeds", lambda *given: asked.append(given) or "feeds")

    def simplify(*given: Any) -> dict[str, Any]:
        asked.append(given)
        given[1].write_text("graph")
        return {"simplified": done, "reason": "odd", "nodes_before": 9, "nodes_after": 7}

    monkeypatch.setattr(tasks.simplify, "simplify", simplify)
    made = {"parameters": {"validation": "set", "task": "detect", "height": 32, "width": 64}}
    write_json(step.recipe, made)
    tasks.simplify.simplify_model(step)
    parameters = tasks.simplify.Parameters("set", "detect", 32, 64)
    source, folder = (
        Path("artifacts/models/m/export/model.onnx"),
        Path("artifacts/models/m/simplify"),
    )
    assert asked[:3] == [
        (Path("set"), "detect", "validation", True),
        (Job(step, parameters), source, tuple(map(Path, "abcdef"))),
        (source, tuple(map(Path, "abcd")), "detect", (32, 64), None, None),
    ]
    assert (asked[3][0], asked[3][1].name, asked[3][2:]) == (source, "model.onnx", ("feeds", 600))
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "record.json"]
    assert said == [
        ("simplified: 9 -> 7 nodes, outputs equal on 4 images",)
        if done
        else ("not simplified, the exported graph goes on: odd", "warning")
    ]
    assert tasks.simplify.COMPARED_IMAGES == 4
