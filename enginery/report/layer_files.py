"""An inspection in the shapes that the field's viewers read: those of trtexec's --exportLayerInfo
and --exportProfile, which TensorRT's engine explorer takes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from enginery.report.layer_hints import LayerSummary
from enginery.system.files import atomic_write
from enginery.toolchain.requests import Inspection

LAYERS, PROFILE, SUMMARY = "layers.json", "profile.json", "summary.json"


def write_layer_files(inspection: Inspection, summary: LayerSummary, folder: Path) -> None:
    """Write layers.json, profile.json and summary.json into a folder."""
    contents = {
        LAYERS: layer_info(inspection),
        PROFILE: profile(inspection),
        SUMMARY: summary.to_json(),
    }
    for name, content in contents.items():
        with atomic_write(folder / name) as partial:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def layer_info(inspection: Inspection) -> dict[str, Any]:
    """What the inspector tells of each layer, with the engine's inputs and outputs."""
    return {"Layers": list(inspection.layers), "Bindings": list(inspection.bindings)}


def profile(inspection: Inspection) -> list[dict[str, Any]]:
    """How often was run, then each layer's milliseconds: of all runs, mean, median, and percent."""
    whole = sum(inspection.milliseconds.values()) or 1.0
    records = [
        {
            "name": name,
            "timeMs": mean * inspection.runs,
            "averageMs": mean,
            "medianMs": inspection.medians.get(name, mean),
            "percentage": 100 * mean / whole,
        }
        for name, mean in inspection.milliseconds.items()
    ]
    return [{"count": inspection.runs}, *records]
