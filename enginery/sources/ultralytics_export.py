"""The export of Ultralytics' weights.

Weights are pickles, which can run code. Those that are not trusted load only if they hold nothing
but Ultralytics' and torch's own classes.
"""

from __future__ import annotations

import pickle
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from enginery.errors import ModelError
from enginery.graphs.inspect import KEPT, read_graph
from enginery.sources.export import (
    SHOWN_NAMES,
    ExportSettings,
    check_is_file,
    check_task,
    copy_source,
    facts_of,
    names_of,
    written,
)
from enginery.sources.ultralytics_compat import import_torchvision, loading, silence
from enginery.system.files import is_full, sha256, temporary_folder


def export_weights(source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    """As `enginery.sources.interface.Source.export`."""
    check_is_file(source)
    # What is read is what the digest names; and Ultralytics writes beside the weights.
    with temporary_folder() as folder:
        copied = copy_source(source, folder, settings)
        return {"source_sha256": sha256(copied), **_of_weights(source, copied, settings, out)}


def _of_weights(source: Path, copied: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    model = _load(source, copied, settings)
    check_task(source, model.task, settings.task)
    keypoints = model.model.model[-1].kpt_shape if settings.task == "pose" else None
    names = names_of(source, settings, model.names)
    facts = facts_of(settings, names, int(max(model.model.stride)), keypoints)
    graph = read_graph(_run_export(model, source, settings))
    kept = {key: str(facts[key]) for key in KEPT if key in facts}
    return written(graph, out, facts, kept, source)


def _load(source: Path, copied: Path, settings: ExportSettings) -> Any:
    from ultralytics import YOLO

    try:
        with silence(), loading(settings.trusted):
            if settings.task == "classify":
                import_torchvision()  # its transforms are part of such checkpoints
            model = YOLO(str(copied))
            model.model.stride  # noqa: B018  a checkpoint without a network fails here
    except Exception as error:  # unpickling raises anything
        if is_full(error):
            raise
        raise _unusable(source, copied, error) from None
    return model


def _unusable(source: Path, copied: Path, error: Exception) -> ModelError:
    unsafe = isinstance(error.__cause__, pickle.UnpicklingError)
    names = _unsafe_names(copied, str(error.__cause__)) if unsafe else ""
    if names:
        what = (
            f"{source} is not loaded: it holds {names}, which cannot be loaded without running "
            "what it says"
        )
        cure = (
            "Save only the network, with today's Ultralytics; or, if you trust whoever made the "
            "file, add"
        )
        return ModelError(what, f"{cure} `trusted: true` to the model in params.yaml")
    text = "it is damaged, or no checkpoint that loads safely" if unsafe else str(error)
    reason = (
        " ".join(text.replace(str(copied), source.name).split())
        .removeprefix("ERROR ❌️ ")[:200]
        .rstrip(".")
    )
    reason = reason or type(error).__name__
    return ModelError(
        f"{source} is no usable Ultralytics model: {reason}",
        "Copy the weights again, or name another file",
    )


def _unsafe_names(copied: Path, refusal: str) -> str:
    """The functions and classes that a checkpoint may not name: all of them where its format tells,
    else the first.
    """
    import torch

    names = re.findall(
        r"(?<=GLOBAL )\S+(?= was not an allowed global)|unsafe getattr\(.*?\)", refusal
    )
    with suppress(ValueError):  # a format older than torch 1.6 cannot be listed
        names = torch.serialization.get_unsafe_globals_in_checkpoint(copied) or names
    return ", ".join(sorted(names)[:SHOWN_NAMES])


def _run_export(model: Any, source: Path, settings: ExportSettings) -> Path:
    try:
        with silence():
            return Path(
                model.export(
                    format="onnx",
                    imgsz=list(settings.imgsz),
                    batch=settings.batch,
                    dynamic=settings.dynamic,
                    opset=settings.opset,
                    simplify=False,
                    half=False,
                    nms=None,
                    device="cpu",
                    verbose=False,
                )
            )
    except Exception as error:
        if is_full(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{source} cannot be exported: {reason}", "Try another opset in params.yaml"
        ) from None
