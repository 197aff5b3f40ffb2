"""The ends of an engine: pixels in and detections out, as its target asks for.

The build puts them onto the prepared graph, and nothing before it knows of them: calibration and
the gate work on the model's own graph, which all targets share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from enginery.project.model import Model
from enginery.vision.nms import Nms

if TYPE_CHECKING:
    from enginery.graphs.inspect import GraphInfo


@dataclass(frozen=True)
class Scaling:
    """What becomes of values from 0 to 1: (value - mean) / std."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class GraphToBuild:
    """A graph, the input that takes images if it is known, and how many times larger the values of
    tensors are than in the graph that was calibrated.
    """

    onnx: Path
    info: GraphInfo
    image: str | None
    ranges: Mapping[str, int] = field(default_factory=dict)


def scaling(model: Model) -> Scaling:
    """As the model's images are prepared."""
    how = model.preprocess
    return Scaling(how.mean, how.std) if how else Scaling()


def own_ends(
    onnx: Path, image: str | None, pixels: Scaling | None, nms: Nms | None, folder: Path
) -> GraphToBuild:
    """The prepared graph itself, or one with ends of its own in `folder`.

    Raises:
        ModelError: the graph cannot have them.
    """
    from enginery.graphs.detections import give_detections
    from enginery.graphs.external import write_graph
    from enginery.graphs.inspect import image_input, info_of, read_graph
    from enginery.graphs.pixels import PIXELS, take_pixels

    model = read_graph(onnx)
    if pixels is None and nms is None:
        return GraphToBuild(onnx, info_of(model), image)
    ranges = {}
    if pixels is not None:
        own = image or image_input(info_of(model))
        ranges[own], image = take_pixels(model, own, pixels.mean, pixels.std), PIXELS
    if nms is not None:
        give_detections(model, nms)
    write_graph(model, folder / "graph.onnx")
    return GraphToBuild(folder / "graph.onnx", info_of(model), image, ranges)
