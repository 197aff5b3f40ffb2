"""What a model takes and gives, from its graph, where that is the one that an engine was built
from.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    from enginery.graphs.inspect import TensorInfo, graph_info

    try:
        check_original(engines[0])
    except EngineryError:  # the model was trained again since
        return None

    def tensor(info: TensorInfo) -> Tensor:
        shape = tuple(size if isinstance(size, int) else -1 for size in info.shape)
        return Tensor(info.name, info.dtype, shape)

    info = graph_info(graph)
    return Signature(tuple(map(tensor, info.inputs)), tuple(map(tensor, info.outputs)))
