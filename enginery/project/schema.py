"""params.yaml for editors and for the reference: its JSON Schema, with what each key means.

The types are those of `enginery.project.params`. What a key means stands here and not beside its
type, because every command imports the types and none of them needs the texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enginery import runtimes
from enginery.project.params import Spec
from enginery.quantization.rules import RULES
from enginery.runtimes.tensorrt import NEEDS

SCHEMA_FILE = "params.schema.json"
_DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that editors' YAML servers know
_SIZE = "A number is a static size; [min, opt, max] makes it dynamic."

# What each key means, by the type that has it.
KEYS: Mapping[str, Mapping[str, str]] = {
    "Spec": {
        "matrix": "What is built: every model, for every target, at every precision.",
        "models": "The models, by name.",
        "int8": "How each model is quantized, by the model's name.",
        "targets": "What engines are for, by name.",
        "toolchains": "Interpreters with a TensorRT of their own, by name. "
        "`enginery toolchain add` makes one.",
        "validation": "How close a graph must stay to the FP32 original to be registered.",
        "demo": "How many images the demo draws. Leave it out in your own project.",
        "time_limit_s": "After how many seconds a step is stopped, by the step's name. An hour if "
        "it is not named; calibrate, validate and build have twelve.",
    },
    "Matrix": {
        "models": "Names from `models`.",
        "targets": "Names from `targets`.",
        "precisions": "fp32, fp16, int8. INT8 engines keep the other layers in FP16.",
    },
    "Model": {
        "source": "The model's file: an Ultralytics .pt or an .onnx.",
        "sha256": "The digest that the file must have. It is checked before anything reads the "
        "file.",
        "trusted": "Let the weights run code when they are loaded. Only for a file whose maker "
        "you trust.",
        "task": "What the model's outputs mean.",
        "batch": f"Images at once. {_SIZE}",
        "height": f"The input's height in pixels. {_SIZE}",
        "width": f"The input's width in pixels. {_SIZE}",
        "opset": "The ONNX opset of the export. An .onnx file has its own.",
        "input": "The name of the image input, if an .onnx file has more inputs than one.",
        "profiles": "Optimization profiles beside the one of the model's own sizes.",
        "validation": "The validation images: a folder with images/ and labels/; to classify, a "
        "folder of images for each class.",
        "targets": "The targets of this model, in place of the matrix's.",
        "precisions": "The precisions of this model, in place of the matrix's.",
    },
    "Sizes": {
        "batch": f"Images at once; as in the model if left out. {_SIZE}",
        "height": f"The input's height in pixels; as in the model if left out. {_SIZE}",
        "width": f"The input's width in pixels; as in the model if left out. {_SIZE}",
    },
    "Int8": {
        "calibration": "A folder of images, none of them used for validation, or a TensorRT "
        ".cache.",
        "algorithm": "How a tensor's range is chosen from its histogram.",
        "percentile": "The share of values, in percent, that lie inside the range. For the "
        "algorithm percentile.",
        "minimum_images": "The fewest images to calibrate with.",
        "rule": "A named list of layers that stay in FP16.",
        "exclude": "Patterns of node names that stay in FP16, beside the rule's. "
        "`enginery sensitivity` proposes some.",
    },
    "Target": {
        "runtime": "The kind of engine: `tensorrt` builds on the GPU that the engine is for, "
        "`tensorrt_rtx` builds for RTX GPUs without one.",
        "version": "As much of TensorRT's version as matters: 10, 10.16 or 10.16.1.",
        "compute_capability": "The GPU generation. TensorRT-RTX builds for it; tensorrt builds for "
        "its own GPU, which must then have it.",
        "toolchain": "A name from `toolchains`; Enginery's own interpreter if left out.",
        "workspace_mib": "The most GPU memory, in MiB, that a kernel may use while TensorRT "
        "chooses.",
        "optimization_level": "How long TensorRT searches for faster kernels.",
        "tactic_sources": "The libraries that TensorRT may take kernels from, as TensorRT names "
        "them; its default if left out.",
        "time_limit_s": "After how many seconds a build is stopped.",
        "gpu": "Which GPU builds: an index as nvidia-smi counts, or a UUID (GPU-...).",
        "calibration": "`portable`: Enginery's ranges. `native`: TensorRT calibrates by itself, up "
        "to version 10.",
        "strongly_typed": "Take precisions from the graph alone. From TensorRT 11 on every network "
        "is.",
        "tf32": "Let FP32 layers use TF32.",
        "sparsity": "Let TensorRT use kernels for 2:4 sparse weights.",
        "version_compatible": "Build an engine that later TensorRT versions of the same major "
        "load, too.",
        "hardware_compatible": "Build an engine that runs on every GPU from compute capability "
        "8.0 on.",
        "refittable": "Build an engine whose weights can be replaced without a build.",
        "dla_core": "The DLA core to run on; what it cannot run stays on the GPU.",
    },
    "Toolchain": {
        "python": "The path of a Python interpreter with one TensorRT in it.",
    },
    "Tolerance": {
        "map50_95_drop": "How much mAP50-95 a graph may lose: of boxes, masks, keypoints or "
        "oriented boxes.",
        "top1_drop": "How much top-1 accuracy a model that classifies may lose.",
        "rms_relative": "How far raw outputs may be from the original's (RMS), relative to them, "
        "at each precision.",
    },
    "Rms": {
        "fp32": "The limit of FP32 graphs.",
        "fp16": "The limit of FP16 graphs.",
        "int8": "The limit of INT8 graphs.",
    },
    "Demo": {
        "validation_images": "How many images to draw for validation.",
        "calibration_images": "How many images to draw for calibration.",
    },
}


def params_schema() -> dict[str, Any]:
    """The JSON Schema of params.yaml, as editors read it."""
    schema = Spec.model_json_schema()
    definitions = {name: _described(name, body) for name, body in schema["$defs"].items()}
    definitions["Target"]["properties"]["runtime"] |= _suggested(runtimes.names())
    definitions["Int8"]["properties"]["rule"] |= {"enum": list(RULES)}
    title = "params.yaml of Enginery"
    whole = {"$schema": _DRAFT, **_described("Spec", schema), "title": title, "$defs": definitions}
    plain: dict[str, Any] = _plain(whole)
    return plain


def since(key: str) -> str:
    """Which TensorRT versions have an option of a target; empty: all that Enginery supports."""
    return NEEDS[key].versions if key in NEEDS else ""


def _described(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A type with what each of its keys means; without the titles that pydantic makes up."""
    properties = {
        key: {**_untitled(value), "description": KEYS[name][key]}
        for key, value in body["properties"].items()
    }
    text = " ".join(body["description"].split())
    return {**_untitled(body), "description": text, "properties": properties}


def _untitled(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "title"}


def _suggested(names: Sequence[str]) -> dict[str, Any]:
    """A text for which an editor offers names, and which may be another: that of a package."""
    return {"anyOf": [{"enum": sorted(names)}, {"type": "string"}]}


def _plain(value: Any) -> Any:
    """A schema in the words of draft 7, and as strict about names as reading is."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: _plain(inner) for key, inner in value.items()}
    if "prefixItems" in result:  # of equal items here
        result["items"] = result.pop("prefixItems")[0]
    if "patternProperties" in result:
        result["additionalProperties"] = False
    if "$ref" in result and len(result) > 1:  # draft 7 reads nothing beside a reference
        result["allOf"] = [{"$ref": result.pop("$ref")}]
    return result
