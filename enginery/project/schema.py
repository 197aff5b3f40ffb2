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
from enginery.vision.preprocess import PRESETS

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
        "registry": "Where the team's engines are, and whose signatures count.",
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
        "source": "The model's file: a .pt of Ultralytics, a .pth of torchvision, or an .onnx.",
        "architecture": "The network that weights are of, where the file does not tell.",
        "names": "A file with the names of the classes, where the source has none.",
        "sha256": "The digest that the file must have. It is checked before anything reads the "
        "file.",
        "trusted": "Let the weights run code when they are loaded. Only for a file whose maker "
        "you trust.",
        "task": "What the model's outputs mean. `tensors` is for any others.",
        "truth": "What counts as right: `labels`, or `original` for images without labels: what "
        "the FP32 original finds in them.",
        "metric": "A metric of your own, as in metrics/mine.py:score. More is better.",
        "preprocess": "How images become inputs, if it is not Ultralytics' way: a preset's name, "
        "or its parts.",
        "batch": f"Images at once. {_SIZE}",
        "height": f"The input's height in pixels. {_SIZE}",
        "width": f"The input's width in pixels. {_SIZE}",
        "opset": "The ONNX opset of the export. An .onnx file has its own.",
        "input": "The name of the input that takes images, if there are more inputs than one.",
        "shapes": "The shapes of further inputs with open sizes, by the input's name.",
        "fp32_layers": "Patterns of node names that stay in FP32 in FP16 and INT8 engines: those "
        "whose values FP16 cannot hold.",
        "outputs": "Tolerances for single outputs of `tensors`, by the output's name.",
        "profiles": "Optimization profiles beside the one of the model's own sizes.",
        "validation": "The validation images: a folder with images/ and labels/, or all of a data "
        "set in Ultralytics' layout; to classify, a folder of images for each class.",
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
        ".cache. Left out: the `train` images of the model's data set.",
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
        "optimization_level": "How long TensorRT searches for faster kernels. Level 0 takes no "
        "timing cache.",
        "tactic_sources": "The libraries that TensorRT may take kernels from, as TensorRT names "
        "them; its default if left out.",
        "time_limit_s": "After how many seconds a build is stopped.",
        "input": "What the engine takes: `float` as the model does, or `uint8` pixels, whose "
        "normalization is then part of the engine.",
        "output": "What the engine gives: `raw` as the model does, or `detections`: NMS is then "
        "part of the engine.",
        "nms": "How `output: detections` chooses among boxes.",
        "fp32_fallback": "What to do where TensorRT runs layers of an FP16 or INT8 engine in FP32: "
        "warn, or refuse to register the engine.",
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
    "Nms": {
        "confidence": "The least confidence of a detection.",
        "iou": "The overlap from which two boxes of a class are one.",
        "detections": "The most detections of an image.",
    },
    "Toolchain": {
        "python": "The path of a Python interpreter with one TensorRT in it.",
    },
    "Tolerance": {
        "map50_95_drop": "How much mAP50-95 a graph may lose: of boxes, masks, keypoints or "
        "oriented boxes.",
        "top1_drop": "How much top-1 accuracy a model that classifies may lose.",
        "miou_drop": "How much mean IoU a semantic segmentation may lose.",
        "cosine_drop": "How much cosine similarity outputs of the task tensors may lose.",
        "score_drop": "How much of a team's own metric may be lost.",
        "rms_relative": "How far raw outputs may be from the original's (RMS), relative to them, "
        "at each precision.",
    },
    "OutputTolerance": {
        "rms": "The largest RMS difference, relative to the original's output.",
        "max": "The largest difference of one value.",
        "cosine": "The least cosine similarity.",
    },
    "Preprocess": {
        "mode": "How an image is fitted into height and width: on grey, stretched, or its short "
        "side resized and the middle cut out.",
        "resize": "The short side in pixels before the middle is cut out.",
        "interpolation": "How pixels are resized.",
        "color": "The order of the channels.",
        "mean": "What is taken from values of 0 to 1, for each channel.",
        "std": "What they are then divided by, for each channel.",
        "layout": "The order of the input's dimensions.",
        "dtype": "The input's type. With uint8, values stay as they are: 0 to 255.",
    },
    "RegistrySettings": {
        "backend": "The kind of registry.",
        "location": "Where it is. Left out: the kind's own; for git, the remote `origin`.",
        "signing_key": "The SSH key that signs what this machine publishes and promotes.",
        "allowed_signers": "The file, as ssh-keygen reads it, that says whose signatures count.",
        "require_signature": "Pull nothing without a signature that counts.",
        "approval": "Promote only what a person approved in Prefect's UI: by the deployment "
        "promote of prefect.yaml.",
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
    definitions["Int8"]["required"] = []  # reading fills in where the images are
    presets = {"enum": ["ultralytics", *PRESETS]}
    definitions["Model"]["properties"]["preprocess"]["anyOf"].append(presets)
    text = "The preset whose values the other keys replace."
    definitions["Preprocess"]["properties"]["preset"] = {**presets, "description": text}
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
