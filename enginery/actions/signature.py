"""What a model takes and gives, from its graph, where that is the one that an engine was built
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from enginery.actions.export_triton import Signature, Tensor
from enginery.errors import EngineryError
from enginery.project.paths import model_folder
from enginery.registry.store import Engine


def read_signature(engines: Sequence[Engine]) -> Signature | None:
    """The inputs and outputs of the graph; None where it is not here."""
    graph = model_folder(engines[0].model, "export") / "model.onnx"
    if not graph.is_file():
        return None
    from enginery.actions.engine_session import check_original
    from enginery.graphs.inspect import TensorInfo, graph_info, image_input

    try:
        check_original(engines[0])
    except EngineryError:  # the model was trained again since
        return None

    def tensor(info: TensorInfo) -> Tensor:
        shape = tuple(size if isinstance(size, int) else -1 for size in info.shape)
        return Tensor(info.name, info.dtype, shape)

    info = graph_info(graph)
    inputs, outputs = tuple(map(tensor, info.inputs)), tuple(map(tensor, info.outputs))
    return _with_ends(Signature(inputs, outputs), engines[0], image_input(info))


def _with_ends(signature: Signature, engine: Engine, usual: str) -> Signature:
    """What the engine takes and gives, where its target asked for other ends than the model's."""
    from enginery.graphs.detections import OUTPUTS
    from enginery.graphs.pixels import PIXELS

    inputs, outputs, nms = signature.inputs, signature.outputs, engine.built.detections
    image = engine.built.input or usual
    if engine.built.takes_pixels:
        inputs = tuple(
            replace(each, name=PIXELS, type="UINT8", channels_last=True)
            if each.name == image
            else each
            for each in inputs
        )
    if nms:
        batch, most = inputs[0].shape[0], nms.detections
        shapes = ((batch, 1), (batch, most, 4), (batch, most), (batch, most))
        kinds = ("INT32", "FLOAT", "FLOAT", "INT32")
        outputs = tuple(map(Tensor, OUTPUTS, kinds, shapes))
    return Signature(inputs, outputs)
