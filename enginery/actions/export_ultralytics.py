"""export-ultralytics: a registered plan behind the header with which Ultralytics' own engines
begin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from enginery.actions.engine_session import check_original
from enginery.errors import EngineryError
from enginery.evaluation.runners import GraphRunner
from enginery.project.paths import model_folder
from enginery.registry.store import Engine, check_whole
from enginery.registry.task_metadata import read_task_metadata
from enginery.system.files import replacing
from enginery.vision.images import list_images, preprocess, read_image

INPUT = "images"
NMS_OPERATORS = {
    "NonMaxSuppression",
    "NonZero",
}  # what they find is counted in the middle of a run, which no CUDA graph can capture


def export_ultralytics(engine: Engine, out: Path) -> None:
    """Write the header's length in four bytes, the header and the plan.

    Raises:
        EngineryError: the plan is damaged, what its outputs are cannot be told, or YOLO() cannot feed it.
    """
    _check_runtime(engine)
    check_whole(engine)
    header = json.dumps(
        metadata(engine.manifest.to_json(), embedded_nms(engine)), sort_keys=True
    ).encode()
    with replacing(out) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(4, "little"))
        file.write(header)
        file.write(engine.plan.read_bytes())


def _check_runtime(engine: Engine) -> None:
    """YOLO() imports `tensorrt`, and lets no engine run code of its own."""
    if engine.manifest.runtime != "tensorrt":
        what = f"{engine.name} is of TensorRT-RTX, and YOLO() loads engines of TensorRT"
        raise EngineryError(
            what, "Build it for a target of runtime tensorrt; `enginery predict` runs it as it is"
        )
    if engine.built.version_compatible:
        what = f"{engine.name} is version compatible: it brings code of its own, which YOLO() does not let run"
        raise EngineryError(
            what, "Build it without version_compatible; `enginery predict` runs it as it is"
        )


def metadata(manifest: Mapping[str, Any], nms: bool | None) -> dict[str, Any]:
    """What Ultralytics reads of an engine: task, classes, stride, sizes (height, width), batch, and
    whether its outputs are final.

    `nms` is that of its own exports: None: raw outputs; False: a head that needs no NMS; True: NMS
    is in the graph.
    """
    export, built = manifest["steps"]["export"], manifest["steps"]["build"]["recipe"]["parameters"]
    profile = built["profile"]
    batch, channels, height, width = profile["opt"]
    return {
        "description": f"{manifest['model']} {manifest['precision']}, built by Enginery",
        "task": export["task"],
        "stride": export["stride"],
        "names": {int(index): name for index, name in export["names"].items()},
        "batch": batch,
        "channels": channels,
        "imgsz": [height, width],
        "end2end": nms is False,
        "args": {"dynamic": profile["min"] != profile["max"], "nms": nms},
        **({"kpt_shape": export["kpt_shape"]} if "kpt_shape" in export else {}),
        **({"dla": built["dla_core"]} if built.get("dla_core") is not None else {}),
    }


def embedded_nms(engine: Engine) -> bool | None:
    """As above. Only a user's own graph can give final detections: of weights, YOLO26's and
    YOLOv10's too, raw outputs are exported.
    """
    if not engine.manifest.steps.export.recipe.parameters.source.endswith(".onnx"):
        return None
    check_original(engine)
    graph = model_folder(engine.model, "export") / "model.onnx"
    runner = GraphRunner(graph, engine.built.profile.opt[2:])
    _check_names(engine, runner)
    if not _is_final(engine, runner):
        return None
    return any(
        node.op_type in NMS_OPERATORS
        for node in onnx.load(graph, load_external_data=False).graph.node
    )


def _check_names(engine: Engine, runner: GraphRunner) -> None:
    """Ultralytics feeds an input by its name, and takes outputs in the order of theirs."""
    if runner.input != INPUT:
        what = f"{engine.name}: its input is called {runner.input}, and YOLO() feeds only one called {INPUT}"
        raise EngineryError(
            what,
            "Rename it in the ONNX and build again; `enginery predict` runs the engine as it is",
        )
    if list(runner.outputs) != sorted(runner.outputs):
        what = f"{engine.name}: its outputs are {', '.join(runner.outputs)}, and YOLO() takes them in the order of their names"
        raise EngineryError(
            what,
            "Rename them in the ONNX and build again; `enginery predict` runs the engine as it is",
        )


def _is_final(engine: Engine, runner: GraphRunner) -> bool:
    """By the shapes of outputs for an image that it was validated with: those that a dynamic graph
    declares may be wrong.
    """
    head = read_task_metadata(engine.model)
    image = list_images(
        Path(engine.manifest.steps.validation.recipe.parameters.validation), head.task
    )[0]
    outputs = runner.run(preprocess(read_image(image), *runner.size, head.task))
    return head.end2end([output.shape for output in outputs])
