"""The child program with the layer constraints that `yolo export format=engine int8=True`
(Ultralytics 8.4) sets on TensorRT up to 10.

In the network's last block, sigmoids stay in fp32 and the output convolutions and DFL in fp16, and
TensorRT must obey.
"""

import re
import runpy
import sys
from pathlib import Path

CHILD = Path(__file__).resolve().parents[2] / "enginery/toolchain/child"
sys.path.insert(0, str(CHILD))

import building  # noqa: E402


def constrain(trt, config, network, names):
    """Takes the place of `keep_in_half`; `names` are Enginery's own choice and don't count."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    blocks = [
        int(found.group(1))
        for layer in layers
        for found in [re.search(r"/model\.(\d+)/", layer.name)]
        if found
    ]
    head = "/model.{}/".format(max(blocks))
    for layer in layers:
        kind = wanted(trt, layer) if head in layer.name else None
        if kind is not None:
            layer.precision = kind
            for output in range(layer.num_outputs):
                layer.set_output_type(output, kind)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


def wanted(trt, layer):
    """The precision that a layer of the head must have; None: TensorRT's choice."""
    if layer.type == trt.LayerType.ACTIVATION and "sigmoid" in layer.name.lower():
        return trt.float32
    output = layer.name.endswith(".2/Conv") or "/dfl/" in layer.name
    return trt.float16 if layer.type == trt.LayerType.CONVOLUTION and output else None


building.keep_in_half = constrain
runpy.run_path(str(CHILD / "__main__.py"), run_name="__main__")
