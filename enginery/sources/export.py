"""Trained weights, or the user's own ONNX, to a clean FP32 graph.

Two exports of the same weights are the same bytes.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from enginery.errors import ModelError
from enginery.graphs.data_files import check_data_file, data_files, source_digest
from enginery.graphs.external import write_graph
from enginery.graphs.inspect import KEPT, fit_profiles, info_of, read_graph, strip_metadata
from enginery.graphs.tensors import values
from enginery.sources.ultralytics_compat import import_torchvision, loading, silence
from enginery.system.files import is_full, scratch, sha256, temporary_folder

ANY_INPUTS = ("tensors", "semantic")  # tasks whose graphs may have several, of any kind
_SHOWN_NAMES = 5
_PART = 1 << 24  # values that are looked at together


@dataclass(frozen=True)
class ExportSettings:
    """What weights become: `imgsz` is (height, width), `dynamic` leaves batch, height and width
    open. An ONNX has all but its task.

    `names` are those of its classes, where the source has none. `trusted` weights may run code when
    they are loaded; `sha256` is the digest that the source's own file must have. An ONNX must have
    sizes, and an `input`, that `profiles` fit.
    """

    task: str
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    dynamic: bool = False
    opset: int = 17
    trusted: bool = False
    sha256: str | None = None
    profiles: tuple[dict[str, list[int]], ...] = ()
    input: str | None = None
    names: tuple[str, ...] | None = None
    architecture: str | None = None


def export(source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    """Write `source` as an ONNX graph to `out`; returns source_sha256, task, stride, names, opset,
    nodes; of a pose, kpt_shape; of an ONNX with external data, source_data, the digest of each data
    file.

    Weights are pickles, which can run code. Those that are not trusted load only if they hold
    nothing but Ultralytics' and torch's own classes.

    Raises:
        ModelError: the source or a data file of it is missing, cut off, no model, of another task,
        or of other sizes; the source
            is not the one whose digest is given, or wants to run code.
    """
    if not source.is_file():
        raise ModelError(f"{source}: no such file", "Correct the model's source in params.yaml")
    # What is read is what the digest names, whatever becomes of the source; and Ultralytics writes
    # beside the weights.
    if source.suffix == ".onnx":
        with scratch(out.parent) as folder:  # it may be larger than TMPDIR
            copied, data = _copy_onnx(source, folder, settings)
            facts = _of_onnx(source, copied, settings, out)
            return {
                "source_sha256": source_digest(copied, data),
                **({"source_data": data} if data else {}),
                **facts,
            }
    with temporary_folder() as folder:
        copied = copy_source(source, folder, settings)
        return {"source_sha256": sha256(copied), **_of_weights(source, copied, settings, out)}


def copy_source(source: Path, folder: Path, settings: ExportSettings) -> Path:
    """A copy of the source, which nothing has read yet, with the digest that is asked for."""
    copied = Path(shutil.copyfile(source, folder / f"model{source.suffix}"))
    if settings.sha256 and (digest := sha256(copied)) != settings.sha256:
        what = f"{source} has the SHA-256 {digest}, and params.yaml says {settings.sha256}"
        raise ModelError(what, "Get the file again; if the new one is meant, correct `sha256`")
    return copied


def _copy_onnx(source: Path, folder: Path, settings: ExportSettings) -> tuple[Path, dict[str, str]]:
    """A copy of a graph with its data files; the digest of each of these, by its name."""
    copied, digests = copy_source(source, folder, settings), {}
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
        found = {
            key: _literal(metadata[key])
            for key in ("names", "stride", "kpt_shape")
            if key in metadata
        }
        facts = facts_of(
            settings,
            _names(source, settings, found.get("names", {})),
            int(found.get("stride", 32)),
            found.get("kpt_shape"),
        )
    except (ValueError, SyntaxError, TypeError, AttributeError):
        what = (
            f"{source}: its metadata `names`, `stride` or `kpt_shape` is not as Ultralytics writes "
            "it"
        )
        raise ModelError(
            what, "Write names as {0: 'first', 1: 'second'}, kpt_shape as [17, 3]"
        ) from None
    if settings.task == "pose" and "kpt_shape" not in facts:
        raise ModelError(
            f"{source} has no `kpt_shape` in its metadata",
            "Add it as Ultralytics writes it, for example [17, 3]",
        )
    if settings.task in ANY_INPUTS:
        _check_any_ends(source, model)
    else:
        _check_ends(source, model)
    fit_profiles(info_of(model), settings.profiles, settings.input, str(source))
    kept = {key: metadata[key] for key in KEPT if key in metadata}
    if settings.names:
        kept["names"] = str({int(index): name for index, name in facts["names"].items()})
    return written(model, out, facts, kept, source)


def _of_weights(source: Path, copied: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    model = _load(source, copied, settings)
    _check_task(source, model.task, settings.task)
    keypoints = model.model.model[-1].kpt_shape if settings.task == "pose" else None
    names = _names(source, settings, model.names)
    facts = facts_of(settings, names, int(max(model.model.stride)), keypoints)
    graph = read_graph(_run_export(model, source, settings))
    kept = {key: str(facts[key]) for key in KEPT if key in facts}
    return written(graph, out, facts, kept, source)


def _names(source: Path, settings: ExportSettings, own: Mapping[Any, str]) -> Mapping[Any, str]:
    """The classes' names: those that params.yaml gives, else the source's own."""
    if not settings.names:
        return own
    if own and len(own) != len(settings.names):
        what = f"{source} has {len(own)} classes, and `names` in params.yaml {len(settings.names)}"
        raise ModelError(what, "Give each class a name, in their order")
    return dict(enumerate(settings.names))


def _check_task(source: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise ModelError(
            f"{source} is a {found} model, not {wanted}", "Correct the model's task in params.yaml"
        )


def facts_of(
    settings: ExportSettings,
    names: Mapping[Any, str],
    stride: int,
    kpt_shape: Sequence[int] | None = None,
) -> dict[str, Any]:
    """What later steps need to know of a model, and its graph's metadata holds.

    Raises:
        ValueError: names are not numbered from 0, a stride is below 1, or a keypoint has not 2 or 3
        values.
    """
    indexed = {int(index): str(name) for index, name in names.items()}
    if sorted(indexed) != list(range(len(indexed))) or stride < 1:
        raise ValueError
    facts: dict[str, Any] = {
        "task": settings.task,
        "stride": stride,
        "names": {str(index): indexed[index] for index in sorted(indexed)},
    }
    if kpt_shape is not None:
        points, values = kpt_shape
        if values not in (2, 3):
            raise ValueError
        facts["kpt_shape"] = [int(points), int(values)]
    return facts


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
    return ", ".join(sorted(names)[:_SHOWN_NAMES])


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


def written(
    model: Any, out: Path, facts: Mapping[str, Any], metadata: Mapping[str, str], source: Path
) -> dict[str, Any]:
    """Write the graph; returns the facts with its opset and nodes.

    Raises:
        ModelError: its weights are no numbers.
    """
    _check_weights(source, model)
    write_graph(strip_metadata(model, metadata), out)
    info = info_of(model)
    return {**facts, "opset": info.opset, "nodes": info.nodes}


def _check_any_ends(source: Path, model: onnx.ModelProto) -> None:
    """Refuse what has nothing to feed, or gives nothing."""
    info = info_of(model)
    for kind, ends in (("inputs", info.inputs), ("outputs", info.outputs)):
        if not ends:
            raise ModelError(f"{source} has no {kind}", "Export it again")


def _check_ends(source: Path, model: onnx.ModelProto) -> None:
    """Refuse what cannot be fed with images, or gives nothing."""
    info = info_of(model)
    if len(info.inputs) != 1:
        names = ", ".join(tensor.name for tensor in info.inputs) or "none"
        what = (
            f"{source} has {len(info.inputs)} inputs ({names}), and images are fed to a graph with "
            "one"
        )
        cure = "Export it with the image as its only input, or set `task: tensors`"
        raise ModelError(what, cure)
    [tensor] = info.inputs
    if len(tensor.shape) != 4:
        what = (
            f"{source}: its input {tensor.name} has the shape {list(tensor.shape)}, not batch, 3, "
            "height, width"
        )
        raise ModelError(what, "Use an image model, or set `task: tensors`")
    if not info.outputs:
        raise ModelError(f"{source} has no outputs", "Export it again")


def _check_weights(source: Path, model: onnx.ModelProto) -> None:
    """Refuse weights that are not numbers: every output would be none, too, and no comparison could
    tell.
    """
    broken = [tensor.name for tensor in model.graph.initializer if _has_nan(tensor)]
    if broken:
        what = (
            f"{source} has weights that are NaN, in {len(broken)} tensors: "
            f"{', '.join(broken[:_SHOWN_NAMES])}"
        )
        raise ModelError(what, "Its training failed: name a checkpoint from before")


def _has_nan(tensor: onnx.TensorProto) -> bool:
    flat = values(tensor).reshape(-1)
    parts = range(0, flat.size if flat.dtype.kind == "f" else 0, _PART)
    return any(np.isnan(flat[start : start + _PART]).any() for start in parts)


def _literal(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (
        MemoryError,
        RecursionError,
    ):  # how Python's parser says that brackets in it go too deep
        raise ValueError("nested too deeply") from None
