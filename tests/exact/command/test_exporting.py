"""The step that exports weights or takes an ONNX."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tasks.export
from enginery.errors import ModelError
from enginery.project.paths import WORKPLACE, model_folder
from enginery.project.stage import Stage
from enginery.sources.export import ExportSettings
from enginery.system.files import read_json, write_json


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the export was asked for, and what it tells."""
    found = SimpleNamespace(asked=[], said=[], facts={"nodes": 9, "opset": 17})

    def export(source: Path, settings: ExportSettings, out: Path) -> Any:
        found.asked.append((source, settings))
        out.write_bytes(b"graph")
        return found.facts

    write_json(WORKPLACE, {"sources": {"m": {"trusted": True, "sha256": "abc"}}})
    source = SimpleNamespace(export=export)
    monkeypatch.setattr(tasks.export.sources, "find", lambda path: source)
    monkeypatch.setattr(tasks.export, "log", found.said.append)
    return found


def test_weights_are_exported_as_the_recipe_says(exported: Any) -> None:
    stage = Stage("export", "m")
    sizes = {"height": 64, "width": 96, "batch": 4, "dynamic": True, "opset": 18}
    parameters = {"source": "w.pt", "task": "pose", "sizes": sizes}
    write_json(stage.recipe, {"parameters": parameters})
    tasks.export.export_model(stage)
    settings = ExportSettings("pose", (64, 96), 4, True, 18, True, "abc")
    assert exported.asked == [(Path("w.pt"), settings)]
    folder = model_folder("m", "export")
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "record.json"]
    assert read_json(folder / "record.json") == {
        "recipe": {"parameters": parameters},
        **exported.facts,
    }
    assert exported.said == ["exported w.pt: 9 nodes, opset 17"]


def test_an_own_graph_has_all_but_its_task(exported: Any) -> None:
    stage = Stage("export", "m")
    parameters = {"source": "own.onnx", "task": "pose", "data": {"w": "1"}}
    write_json(stage.recipe, {"parameters": parameters})
    exported.facts["source_data"] = {"w": "1"}
    tasks.export.export_model(stage)
    assert exported.asked == [
        (Path("own.onnx"), ExportSettings("pose", trusted=True, sha256="abc"))
    ]
    for data in ({"w": "2"}, None):
        exported.facts["source_data"] = data
        if data is None:
            del exported.facts["source_data"]
        with pytest.raises(ModelError) as error:
            tasks.export.export_model(stage)
        assert error.value.what == "the data files of own.onnx changed since this run began"
        assert error.value.cure == "Run again"
    assert exported.said == ["exported own.onnx: 9 nodes, opset 17"]
