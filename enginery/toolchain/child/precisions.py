"""What TensorRT made of a network: each layer's kind, the types that it reads, and its weights, as
the inspector of the plan tells.
"""

import json


def layers_of(trt, logger, data, request):
    """The layers of a plan that was just built; none where it cannot be loaded here."""
    runtime = trt.Runtime(logger)
    if request["version_compatible"]:
        runtime.engine_host_code_allowed = True
    if request["dla_core"] is not None:
        runtime.DLA_core = request["dla_core"]
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        return []
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = json.loads(text, strict=False)["Layers"]  # 8.6 writes control characters
    return [described(layer) for layer in layers if isinstance(layer, dict)]


def described(layer):
    """A few of a layer's hundred values."""
    weights = layer.get("Weights")
    weights = weights if isinstance(weights, dict) else {}
    return {
        "name": layer["Name"],
        "kind": layer.get("LayerType", ""),
        "reads": [str(tensor.get("Format/Datatype", "")) for tensor in layer.get("Inputs", ())],
        "weights": int(weights.get("Count", 0)),
        "weights_type": str(weights.get("Type", "")),
    }
