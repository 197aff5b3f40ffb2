"""Weights become a graph, and what is called, drawn and left out around it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import enginery.actions.engine_session
import enginery.actions.predict
import enginery.graphs.simplify
import enginery.vision.feeds
import enginery.vision.images
import tasks.simplify
from enginery.errors import DataError, ModelError
from enginery.pipeline.step import Job
from enginery.project.stage import Stage
from enginery.sources import export, ultralytics_export
from enginery.sources.export import ExportSettings
from enginery.system.files import write_json
from enginery.toolchain.requests import PointResult
from tests.exact.export.common import graph


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
    monkeypatch.setattr(ultralytics_export, "_load", lambda *given: model)
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
        enginery.vision.images,
        "list_images",
        lambda *given: asked.append(given) or tuple(map(Path, "abcdef")),
    )
    monkeypatch.setattr(tasks.simplify, "_check", lambda *given: asked.append(given))
    monkeypatch.setattr(
        enginery.vision.feeds, "feeds", lambda *given: asked.append(given) or "feeds"
    )

    def simplify(*given: Any) -> dict[str, Any]:
        asked.append(given)
        given[1].write_text("graph")
        return {"simplified": done, "reason": "odd", "nodes_before": 9, "nodes_after": 7}

    monkeypatch.setattr(enginery.graphs.simplify, "simplify", simplify)
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
