"""export isaac-ros: an engine with the parameters with which Isaac ROS' TensorRTNode runs it.

    OUT/model.plan, tensor_rt.yaml, encoder.args

`encoder.args` are the arguments of dnn_image_encoder.launch.py, which prepares the images. The node
would build an engine of its own: it is told not to, and gets no model to build from, so a plan that
does not load is an error.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from enginery.actions.export_triton import Signature
from enginery.errors import EngineryError
from enginery.registry.store import PLAN, Engine, check_whole
from enginery.system.files import atomic_folder

PARAMETERS, ENCODER = "tensor_rt.yaml", "encoder.args"
_RUNTIME = "tensorrt"  # which the node loads
_INPUT = "input_tensor"  # as the encoder calls what it gives
_TAKES, _GIVES = "nitros_tensor_list_nchw_rgb_f32", "nitros_tensor_list_nhwc_rgb_f32"
Value = str | int | bool | Sequence[str]


def export_isaac_ros(engine: Engine, signature: Signature | None, out: Path) -> Path:
    """Write the folder, whole or not at all; the path of the node's parameters.

    Raises:
        EngineryError: the node cannot feed it, or does not load engines of this kind.
        IntegrityError: the plan is damaged.
    """
    taken = _check(engine, signature)
    check_whole(engine)
    plan = (out / PLAN).resolve()
    with atomic_folder(out) as partial:
        shutil.copyfile(engine.plan, partial / PLAN)
        (partial / PARAMETERS).write_text(_yaml(parameters(engine, taken, plan)), encoding="utf-8")
        words = [f"{name}:={value}" for name, value in encoder_arguments(engine).items()]
        (partial / ENCODER).write_text("\n".join([*words, ""]), encoding="utf-8")
    return out / PARAMETERS


def parameters(engine: Engine, signature: Signature, plan: Path) -> Mapping[str, Value]:
    """The node's parameters."""
    outputs = [tensor.name for tensor in signature.outputs]
    dla = engine.built.dla_core
    return {
        "engine_file_path": str(plan),
        "model_file_path": "",
        "force_engine_update": False,
        "input_tensor_names": [_INPUT],
        "input_binding_names": [tensor.name for tensor in signature.inputs],
        "input_tensor_formats": [_TAKES],
        "output_tensor_names": outputs,
        "output_binding_names": outputs,
        "output_tensor_formats": [_GIVES],
        "max_batch_size": 1,
        "verbose": False,
        **({} if dla is None else {"dla_core": dla}),
    }


def encoder_arguments(engine: Engine) -> Mapping[str, str | int]:
    """The encoder's arguments: values of 0 to 1, in RGB, and padding instead of stretching."""
    _, _, height, width = engine.built.image_profile.opt
    return {
        "network_image_width": width,
        "network_image_height": height,
        "image_mean": "[0.0,0.0,0.0]",
        "image_stddev": "[1.0,1.0,1.0]",
        "enable_padding": "True",
        "encoding_desired": "rgb8",
        "final_tensor_name": _INPUT,
    }


def _check(engine: Engine, signature: Signature | None) -> Signature:
    if engine.manifest.runtime != _RUNTIME:
        what = f"{engine.name} is of {engine.manifest.runtime}, which Isaac ROS does not load"
        raise EngineryError(what, f"Build it for a target of runtime {_RUNTIME}")
    own_way = engine.manifest.judging.preprocess or engine.manifest.steps.export.task == "classify"
    if own_way:
        what = f"{engine.name}: Isaac ROS' encoder would prepare images in another way"
        raise EngineryError(what, "Feed TensorRTNode from a node of your own")
    profile = engine.built.image_profile
    if profile.min != profile.max or profile.opt[0] != 1:
        what = f"{engine.name} takes {profile.text}, and Isaac ROS' encoder gives one image"
        raise EngineryError(what, "Build it with batch 1 and one size")
    if signature is None:
        what = f"{engine.name}: the graph that names its inputs and outputs is not here"
        raise EngineryError(what, "Run `enginery build` first")
    return signature


def _yaml(values: Mapping[str, Value]) -> str:
    """As ROS 2 reads parameters, for a node of any name."""
    import yaml

    return yaml.safe_dump({"/**": {"ros__parameters": dict(values)}}, sort_keys=False)
