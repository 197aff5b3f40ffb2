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
    return [described(entry) for entry in layers if isinstance(entry, dict)]


def described(entry):
    """A few of a layer's hundred values."""
    weights = entry.get("Weights")
    weights = weights if isinstance(weights, dict) else {}
    return {
        "name": entry["Name"],
        "kind": entry.get("LayerType", ""),
        "reads": [str(tensor.get("Format/Datatype", "")) for tensor in entry.get("Inputs", ())],
        "weights": int(weights.get("Count", 0)),
        "weights_type": str(weights.get("Type", "")),
    }
