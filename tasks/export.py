"""export: trained weights (or the user's own ONNX) to a checked ONNX graph with nothing in it that
changes from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from enginery.errors import ModelError
from enginery.project.params import load_spec
from enginery.project.paths import Step, model_folder
from enginery.report.events import log
from enginery.sources.export import ExportSettings, export
from enginery.system.files import replacing_folder, write_json
from tasks.command import recipe, record, run_step


def export_model(step: Step) -> None:
    """Write the model's FP32 graph, the reference of everything that follows."""
    wanted, model = recipe(step), load_spec().models[step.model]
    settings = replace(_settings(wanted), trusted=model.trusted, sha256=model.sha256)
    with replacing_folder(model_folder(step.model, "export")) as folder:
        facts = export(Path(wanted["source"]), settings, folder / "model.onnx")
        if facts.get("source_data", {}) != wanted.get(
            "data", {}
        ):  # DVC would hold it for what the recipe names
            raise ModelError(
                f"the data files of {wanted['source']} changed since this run began", "Run again"
            )
        write_json(folder / "record.json", record(step, **facts))
    log(f"exported {wanted['source']}: {facts['nodes']} nodes, opset {facts['opset']}")


def _settings(wanted: Mapping[str, Any]) -> ExportSettings:
    if "opset" not in wanted:  # an ONNX
        return ExportSettings(wanted["task"])
    return ExportSettings(
        task=wanted["task"],
        imgsz=(wanted["height"], wanted["width"]),
        batch=wanted["batch"],
        dynamic=wanted["dynamic"],
        opset=wanted["opset"],
    )


if __name__ == "__main__":
    run_step("export", export_model, "model")
