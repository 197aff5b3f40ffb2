"""Trained weights, or the user's own ONNX, to a clean FP32 graph. Two exports of the same weights are the same bytes."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.errors import ModelError
from enginery.files import replacing, sha256
from enginery.graphs.inspect import clean, info_of, read_graph, save

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")

_KEPT = ("names", "stride", "task")


@dataclass(frozen=True)
class ExportSettings:
    """`imgsz` is (height, width); `dynamic` leaves batch, height and width open."""

    task: str
    imgsz: tuple[int, int]
    batch: int
    dynamic: bool
    opset: int


def export(source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    """Write `source` as an ONNX graph to `out`; returns source_sha256, task, stride, names, opset and nodes.

    Weights are pickles, and loading one runs its code: export only weights you trust. Their digest goes into the result.

    Raises:
        ModelError: the source is missing, cut off, no model, or of another task.
    """
    if not source.is_file():
        raise ModelError(f"{source}: no such file", "Correct the model's source in params.yaml")
    digest = sha256(source)
    facts = _copy(source, settings, out) if source.suffix == ".onnx" else _export_weights(source, settings, out)
    return {"source_sha256": digest, **facts}


def _copy(source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    model = read_graph(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    _write(model, out, {key: metadata[key] for key in _KEPT if key in metadata})
    info = info_of(model)
    names = _literal(metadata.get("names", "{}"))
    stride = int(_literal(metadata.get("stride", "32")))
    return {"task": settings.task, "stride": stride, "names": _indexed(names), "opset": info.opset, "nodes": info.nodes}


def _export_weights(source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    model = _load(source)
    if model.task != settings.task:
        raise ModelError(f"{source} is a {model.task} model, not {settings.task}", "Correct the model's task in params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        # Ultralytics writes beside the weights: they go to a folder of ours first.
        copied = Path(folder) / "model.pt"
        shutil.copyfile(source, copied)
        graph = read_graph(_run_export(_load(copied), source, settings))
    names, stride = _indexed(model.names), int(max(model.model.stride))
    kept = {"names": str(names), "stride": str(stride), "task": settings.task}
    _write(graph, out, kept)
    info = info_of(graph)
    return {"task": settings.task, "stride": stride, "names": names, "opset": info.opset, "nodes": info.nodes}


def _load(source: Path) -> Any:
    from ultralytics import YOLO

    try:
        with _silence():
            model = YOLO(str(source))
            model.model.stride  # noqa: B018  a checkpoint without a network fails here
    except Exception as error:  # unpickling raises anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{source} is no usable Ultralytics model: {reason}", "Copy the weights again, or name another file") from None
    return model


def _run_export(model: Any, source: Path, settings: ExportSettings) -> Path:
    try:
        with _silence():
            return Path(model.export(
                format="onnx", imgsz=list(settings.imgsz), batch=settings.batch, dynamic=settings.dynamic, opset=settings.opset,
                simplify=False, half=False, nms=False, device="cpu", verbose=False,
            ))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{source} cannot be exported: {reason}", "Try another opset in params.yaml") from None


@contextlib.contextmanager
def _silence() -> Any:
    import logging

    logging.getLogger("ultralytics").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _write(model: Any, out: Path, kept: Mapping[str, str]) -> None:
    with replacing(out) as partial:
        save(clean(model, kept), partial)


def _literal(text: str) -> Any:
    import ast

    return ast.literal_eval(text)


def _indexed(names: Mapping[Any, str]) -> dict[str, str]:
    return {str(index): name for index, name in sorted(names.items(), key=lambda item: int(item[0]))}
