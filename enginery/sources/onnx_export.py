"""The export of a user's own ONNX: checked and cleaned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx

from enginery.errors import ModelError
from enginery.graphs.data_files import check_data_file, data_files, source_digest
from enginery.graphs.inspect import KEPT, fit_profiles, info_of, read_graph
from enginery.sources.export import (
    ExportSettings,
    check_is_file,
    check_task,
    copy_source,
    facts_of,
    names_of,
    written,
)
from enginery.system.files import scratch, sha256

ANY_INPUTS = ("tensors", "semantic")  # tasks whose graphs may have several, of any kind


def export_onnx(source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
    """As `enginery.sources.interface.Source.export`."""
    check_is_file(source)
    # What is read is what the digest names, whatever becomes of the source.
    with scratch(out.parent) as folder:  # it may be larger than TMPDIR
        copied, data = _copy_onnx(source, folder, settings)
        facts = _of_onnx(source, copied, settings, out)
        return {
            "source_sha256": source_digest(copied, data),
            **({"source_data": data} if data else {}),
            **facts,
        }


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
    check_task(source, metadata.get("task", settings.task), settings.task)
    try:
        found = {
            key: _literal(metadata[key])
            for key in ("names", "stride", "kpt_shape")
            if key in metadata
        }
        facts = facts_of(
            settings,
            names_of(source, settings, found.get("names", {})),
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


def _literal(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (
        MemoryError,
        RecursionError,
    ):  # how Python's parser says that brackets in it go too deep
        raise ValueError("nested too deeply") from None
