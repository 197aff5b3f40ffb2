"""export ultralytics: a registered plan behind the header with which Ultralytics' own engines
begin.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

from enginery.actions.engine_session import check_original
from enginery.errors import EngineryError
from enginery.evaluation.runners import GraphRunner
from enginery.project.paths import model_folder
from enginery.registry.manifest import Manifest
from enginery.registry.store import Engine, check_whole
from enginery.registry.task_metadata import read_task_metadata
from enginery.system.files import atomic_write
from enginery.vision.images import list_images, preprocess, read_image
from enginery.vision.tasks import ULTRALYTICS_TASKS

INPUT = "images"
# Their outputs' size is known only in the middle of a run, which no CUDA graph can capture.
NMS_OPERATORS = {"NonMaxSuppression", "NonZero"}


def export_ultralytics(engine: Engine, out: Path) -> None:
    """Write the header's length in four bytes, the header and the plan.

    Raises:
        EngineryError: the plan is damaged, the meaning of its outputs is unknown, or YOLO() cannot
            feed it.
    """
    _check_runtime(engine)
    _check_feeding(engine)
    check_whole(engine)
    header = json.dumps(metadata(engine.manifest, embedded_nms(engine)), sort_keys=True).encode()
    with atomic_write(out) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(4, "little"))
        file.write(header)
        file.write(engine.plan.read_bytes())


def _check_runtime(engine: Engine) -> None:
    """YOLO() imports `tensorrt`, and lets no engine run code of its own."""
    as_it_is = "`enginery predict` runs it as it is"
    if engine.manifest.runtime != "tensorrt":
        what = f"{engine.name} is of TensorRT-RTX, and YOLO() loads engines of TensorRT"
        raise EngineryError(what, f"Build it for a target of runtime tensorrt; {as_it_is}")
    if engine.built.version_compatible:
        own_code = "it brings code of its own, which YOLO() does not let run"
        what = f"{engine.name} is version compatible: {own_code}"
        raise EngineryError(what, f"Build it without version_compatible; {as_it_is}")


def _check_feeding(engine: Engine) -> None:
    """YOLO() knows its own tasks, and its own way to prepare images."""
    if engine.built.takes_pixels or engine.built.detections:
        what = f"{engine.name} takes pixels or gives detections by itself, and YOLO() does both"
        raise EngineryError(what, "Export the engine of a target without `input` and `output`")
    task, judging = engine.manifest.steps.export.task, engine.manifest.judging
    if task not in ULTRALYTICS_TASKS or judging.preprocess:
        what = f"{engine.name}: YOLO() would feed it in another way than its `preprocess` says"
        what = what if task in ULTRALYTICS_TASKS else f"{engine.name}: YOLO() has no task {task}"
        raise EngineryError(what, "Serve it with your own code; its manifest says how")


def metadata(manifest: Manifest, nms: bool | None) -> dict[str, Any]:
    """What Ultralytics reads of an engine: task, classes, stride, sizes (height, width), batch, and
    whether its outputs are final.

    `nms` is that of its own exports: None: raw outputs; False: a head that needs no NMS; True: NMS
    is in the graph.
    """
    export, built = manifest.steps.export, manifest.built
    batch, channels, height, width = built.image_profile.opt
    return {
        "description": f"{manifest.model} {manifest.precision}, built by Enginery",
        "task": export.task,
        "stride": export.stride,
        "names": {int(index): name for index, name in export.names.items()},
        "batch": batch,
        "channels": channels,
        "imgsz": [height, width],
        "end2end": nms is False,
        "args": {"dynamic": built.image_profile.min != built.image_profile.max, "nms": nms},
        **({"kpt_shape": list(export.kpt_shape)} if export.kpt_shape else {}),
        **({"dla": built.dla_core} if built.dla_core is not None else {}),
    }


def embedded_nms(engine: Engine) -> bool | None:
    """As above. Only a user's own graph can give final detections: of weights, YOLO26's and
    YOLOv10's too, raw outputs are exported.
    """
    if not engine.manifest.steps.export.recipe.parameters.source.endswith(".onnx"):
        return None
    check_original(engine)
    graph = model_folder(engine.model, "export") / "model.onnx"
    runner = GraphRunner(graph, engine.built.image_profile.opt[2:])
    _check_names(engine, runner)
    if not _is_final(engine, runner):
        return None
    return any(
        node.op_type in NMS_OPERATORS
        for node in onnx.load(graph, load_external_data=False).graph.node
    )


def _check_names(engine: Engine, runner: GraphRunner) -> None:
    """Ultralytics feeds an input by its name, and takes outputs in the order of theirs."""
    again = "in the ONNX and build again; `enginery predict` runs the engine as it is"
    if runner.input != INPUT:
        only = f"YOLO() feeds only one called {INPUT}"
        what = f"{engine.name}: its input is called {runner.input}, and {only}"
        raise EngineryError(what, f"Rename it {again}")
    if list(runner.outputs) != sorted(runner.outputs):
        order = "YOLO() takes them in the order of their names"
        what = f"{engine.name}: its outputs are {', '.join(runner.outputs)}, and {order}"
        raise EngineryError(what, f"Rename them {again}")


def _is_final(engine: Engine, runner: GraphRunner) -> bool:
    """By the shapes of outputs for a validation image: those that a dynamic graph declares may be
    wrong.
    """
    head = read_task_metadata(engine.model)
    folder = Path(engine.manifest.steps.validation.recipe.parameters.validation)
    image = list_images(folder, head.task)[0]
    outputs = runner.run(preprocess(read_image(image), *runner.size, head.task))
    return head.end2end([output.shape for output in outputs])
