"""A user's own ONNX: its sizes, its classes and its metadata."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import tasks.simplify
from enginery.errors import ModelError
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job
from enginery.project.load import load_spec
from enginery.project.stage import Stage
from enginery.sources import export
from enginery.sources.export import ExportSettings
from enginery.system.files import write_json
from tests.exact.export.common import graph


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
