"""Trained weights, or the user's own ONNX, to a clean FP32 graph. Two exports of the same weights are the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.errors import ModelError
from enginery.files import is_full, scratch, sha256, temporary_folder
from enginery.graphs.external import check_data_file, data_files, source_digest, write_graph
from enginery.graphs.inspect import KEPT, clean, info_of, read_graph
from enginery.vision import silence


@dataclass(frozen=True)
class ExportSettings:
    """What weights become: `imgsz` is (height, width), `dynamic` leaves batch, height and width open. An ONNX has all but its task."""

    task: str
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    dynamic: bool = False
    opset: int = 17


def export(source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    """Write `source` as an ONNX graph to `out`; returns source_sha256, task, stride, names, opset, nodes; of a pose, kpt_shape;
    of an ONNX with external data, source_data, the digest of each data file.

    Weights are pickles, and loading one runs its code: export only weights you trust. Their digest goes into the result.

    Raises:
        ModelError: the source or a data file of it is missing, cut off, no model, or of another task.
    """
    if not source.is_file():
        raise ModelError(f"{source}: no such file", "Correct the model's source in params.yaml")
    # What is read is what the digest names, whatever becomes of the source; and Ultralytics writes beside the weights.
    if source.suffix == ".onnx":
        with scratch(out.parent) as folder:  # it may be larger than TMPDIR
            copied, data = _copy_onnx(source, folder)
            facts = _of_onnx(source, copied, settings, out)
            return {"source_sha256": source_digest(copied, data), **({"source_data": data} if data else {}), **facts}
    with temporary_folder() as folder:
        copied = Path(shutil.copyfile(source, folder / f"model{source.suffix}"))
        return {"source_sha256": sha256(copied), **_of_weights(source, copied, settings, out)}


def _copy_onnx(source: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """A copy of a graph with its data files; the digest of each of these, by its name."""
    copied, digests = Path(shutil.copyfile(source, folder / "model.onnx")), {}
    for name in data_files(copied, source):
        check_data_file(source.parent / name, source.parent / name, source)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        digests[name] = sha256(Path(shutil.copyfile(source.parent / name, folder / name)))
    return copied, digests


def _of_onnx(source: Path, copied: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    model = read_graph(copied, source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    _check_task(source, metadata.get("task", settings.task), settings.task)
    try:
        found = {key: _literal(metadata[key]) for key in ("names", "stride", "kpt_shape") if key in metadata}
        facts = _facts(settings, found.get("names", {}), int(found.get("stride", 32)), found.get("kpt_shape"))
    except (ValueError, SyntaxError, TypeError, AttributeError):
        what = f"{source}: its metadata `names`, `stride` or `kpt_shape` is not as Ultralytics writes it"
        raise ModelError(what, "Write names as {0: 'first', 1: 'second'}, kpt_shape as [17, 3]") from None
    if settings.task == "pose" and "kpt_shape" not in facts:
        raise ModelError(f"{source} has no `kpt_shape` in its metadata", "Add it as Ultralytics writes it, for example [17, 3]")
    return _written(model, out, facts, {key: metadata[key] for key in KEPT if key in metadata})


def _of_weights(source: Path, copied: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    model = _load(source, copied)
    _check_task(source, model.task, settings.task)
    keypoints = model.model.model[-1].kpt_shape if settings.task == "pose" else None
    facts = _facts(settings, model.names, int(max(model.model.stride)), keypoints)
    graph = read_graph(_run_export(model, source, settings))
    return _written(graph, out, facts, {key: str(facts[key]) for key in KEPT if key in facts})


def _check_task(source: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise ModelError(f"{source} is a {found} model, not {wanted}", "Correct the model's task in params.yaml")


def _facts(settings: ExportSettings, names: Mapping[Any, str], stride: int, kpt_shape: Sequence[int] | None) -> dict[str, Any]:
    """What later steps need to know of a model, and its graph's metadata holds.

    Raises:
        ValueError: names are not numbered from 0, or a keypoint has not 2 or 3 values.
    """
    indexed = {int(index): str(name) for index, name in names.items()}
    if sorted(indexed) != list(range(len(indexed))):
        raise ValueError
    facts: dict[str, Any] = {"task": settings.task, "stride": stride, "names": {str(index): indexed[index] for index in sorted(indexed)}}
    if kpt_shape is not None:
        points, values = kpt_shape
        if values not in (2, 3):
            raise ValueError
        facts["kpt_shape"] = [int(points), int(values)]
    return facts


def _load(source: Path, copied: Path) -> Any:
    from ultralytics import YOLO

    try:
        with silence():
            model = YOLO(str(copied))
            model.model.stride  # noqa: B018  a checkpoint without a network fails here
    except Exception as error:  # unpickling raises anything
        if is_full(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{source} is no usable Ultralytics model: {reason}", "Copy the weights again, or name another file") from None
    return model


def _run_export(model: Any, source: Path, settings: ExportSettings) -> Path:
    try:
        with silence():
            return Path(model.export(
                format="onnx", imgsz=list(settings.imgsz), batch=settings.batch, dynamic=settings.dynamic, opset=settings.opset,
                simplify=False, half=False, nms=None, device="cpu", verbose=False,
            ))
    except Exception as error:
        if is_full(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{source} cannot be exported: {reason}", "Try another opset in params.yaml") from None


def _written(model: Any, out: Path, facts: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Write the graph; returns the facts with its opset and nodes."""
    write_graph(clean(model, metadata), out)
    info = info_of(model)
    return {**facts, "opset": info.opset, "nodes": info.nodes}


def _literal(text: str) -> Any:
    import ast

    return ast.literal_eval(text)
