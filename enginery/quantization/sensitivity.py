"""What INT8 costs, layer by layer: each is quantized alone, and the graph's outputs are compared
with the float graph's on real images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from enginery.graphs.session import open_model
from enginery.quantization.placement import Placement
from enginery.quantization.qdq import insert

Feed = Mapping[str, NDArray[np.float32]]
Outputs = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class LayerCost:
    """A layer and the error that INT8 in it alone gives the outputs: RMS relative to each output
    channel's own, averaged.
    """

    layer: str
    cost: float


def rank(
    model: onnx.ModelProto,
    placement: Placement,
    thresholds: Mapping[str, float],
    feeds: Sequence[Feed],
    progress: Callable[[int, int], None],
) -> list[LayerCost]:
    """Every layer of a placement, the costliest first."""
    expected = _run(model, feeds)
    alone = list(_one_by_one(placement))
    costs = []
    for number, (layer, only) in enumerate(alone, 1):
        quantized = onnx.ModelProto()
        quantized.CopyFrom(model)
        insert(quantized, only, thresholds)
        costs.append(LayerCost(layer, _distance(expected, _run(quantized, feeds))))
        progress(number, len(alone))
    return sorted(costs, key=lambda layer: (-layer.cost, layer.layer))


def smallest_prefix(
    ranked: Sequence[str], passes: Callable[[Sequence[str]], bool]
) -> list[str] | None:
    """The shortest beginning of a ranking whose exclusion passes, by doubling, then bisection; None
    if not even all of it does.
    """
    fails, passing = -1, 0
    while not passes(ranked[:passing]):
        if passing >= len(ranked):
            return None
        fails, passing = passing, min(max(2 * passing, 1), len(ranked))
    while passing - fails > 1:
        middle = (fails + passing) // 2
        if passes(ranked[:middle]):
            passing = middle
        else:
            fails = middle
    return list(ranked[:passing])


def _one_by_one(placement: Placement) -> Iterator[tuple[str, Placement]]:
    for name, weights in placement.nodes.items():
        yield name, Placement({name: weights}, {}, ())
    for name, index in placement.shortcuts.items():
        yield name, Placement({}, {name: index}, ())


def _run(model: onnx.ModelProto, feeds: Sequence[Feed]) -> list[Outputs]:
    session = open_model(model, "the graph")
    return [session.run(None, dict(feed)) for feed in feeds]


def _distance(expected: Sequence[Outputs], actual: Sequence[Outputs]) -> float:
    """Boxes count in hundreds of pixels, scores in hundredths: each channel (axis 1) is measured by
    its own size.
    """
    shares = []
    for output in range(len(expected[0])):
        before = np.stack([_channels(image[output]) for image in expected])
        after = np.stack([_channels(image[output]) for image in actual])
        size = np.square(before).sum(axis=(0, 2))
        error = np.square(after - before).sum(axis=(0, 2))
        shares.append(np.sqrt(error[size > 0] / size[size > 0]))
    return float(np.concatenate(shares).mean())


def _channels(output: NDArray[np.float32]) -> NDArray[np.float64]:
    channels = output.shape[1] if output.ndim > 2 else 1
    return (
        np.asarray(output, np.float64)
        .reshape(len(output), channels, -1)
        .swapaxes(0, 1)
        .reshape(channels, -1)
    )
