"""What every source's export has in common: its settings, a copy of the source, what later steps
need to know, and the clean FP32 graph.

Two exports of the same source are the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from enginery import sources
from enginery.errors import ModelError
from enginery.graphs.external import write_graph
from enginery.graphs.inspect import info_of, strip_metadata
from enginery.graphs.tensors import values
from enginery.system.files import sha256

SHOWN_NAMES = 5
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

    Raises:
        ModelError: the source or a data file of it is missing, cut off, no model, of another task,
        or of other sizes; the source
            is not the one whose digest is given, or wants to run code.
    """
    return sources.find(source).export(source, settings, out)


def check_is_file(source: Path) -> None:
    """Make sure that there is something to export."""
    if not source.is_file():
        raise ModelError(f"{source}: no such file", "Correct the model's source in params.yaml")


def copy_source(source: Path, folder: Path, settings: ExportSettings) -> Path:
    """A copy of the source, which nothing has read yet, with the digest that is asked for."""
    copied = Path(shutil.copyfile(source, folder / f"model{source.suffix}"))
    if settings.sha256 and (digest := sha256(copied)) != settings.sha256:
        what = f"{source} has the SHA-256 {digest}, and params.yaml says {settings.sha256}"
        raise ModelError(what, "Get the file again; if the new one is meant, correct `sha256`")
    return copied


def names_of(
    source: Path, settings: ExportSettings, own: Mapping[Any, str], classes: int | None = None
) -> Mapping[Any, str]:
    """The classes' names: those that params.yaml gives, else the source's own. `classes` is their
    number where the source knows it without names.
    """
    if not settings.names:
        return own
    count = len(own) if classes is None else classes
    if count and count != len(settings.names):
        what = f"{source} has {count} classes, and `names` in params.yaml {len(settings.names)}"
        raise ModelError(what, "Give each class a name, in their order")
    return dict(enumerate(settings.names))


def check_task(source: Path, found: str, wanted: str) -> None:
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


def _check_weights(source: Path, model: onnx.ModelProto) -> None:
    """Refuse weights that are not numbers: every output would be none, too, and no comparison could
    tell.
    """
    broken = [tensor.name for tensor in model.graph.initializer if _has_nan(tensor)]
    if broken:
        what = (
            f"{source} has weights that are NaN, in {len(broken)} tensors: "
            f"{', '.join(broken[:SHOWN_NAMES])}"
        )
        raise ModelError(what, "Its training failed: name a checkpoint from before")


def _has_nan(tensor: onnx.TensorProto) -> bool:
    flat = values(tensor).reshape(-1)
    parts = range(0, flat.size if flat.dtype.kind == "f" else 0, _PART)
    return any(np.isnan(flat[start : start + _PART]).any() for start in parts)
