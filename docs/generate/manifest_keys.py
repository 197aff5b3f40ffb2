"""What each key of a manifest means, by the type that has it."""

from __future__ import annotations

from collections.abc import Mapping

_STEP = {"recipe": "What shaped the step's output."}
_MADE = {
    "runtime": "The kind of engine, as params.yaml names it.",
    "runtime_version": "The version of TensorRT that built the plan.",
    "compute_capability": "The GPU generation; null: any that the runtime supports.",
    "gpu": "The card that it was built on and is for; null: any of that generation.",
    "platform": "Operating system and architecture.",
}

KEYS: Mapping[str, Mapping[str, str]] = {
    "Manifest": {
        "schema": "The version of this schema.",
        "model": "The model's name in params.yaml.",
        "target": "The target's name in params.yaml.",
        "precision": "The precision.",
        **_MADE,
        "plan": "The plan's bytes.",
        "metrics": "The metric of the graph and of its FP32 original, and the RMS difference of "
        "outputs.",
        "digests": "SHA-256 of what went in: source, graph, validation and calibration images, "
        "calibration cache.",
        "steps": "What every step wrote down.",
    },
    "BuildParameters": {
        **_MADE,
        "profile": "The input's shapes, if there is one optimization profile.",
        "profiles": "The input's shapes, profile by profile, if there are several.",
        "arrays": "The shapes of inputs that are no images, by the input's name.",
        "input": "The input that takes images, if there are more inputs than one.",
        "optimization_level": "How long TensorRT searched for faster kernels.",
        "pixels": "The mean and the std in the engine, if it takes uint8.",
        "nms": "The limits of NMS in the engine, if it gives detections; those not there are the "
        "defaults.",
        "version_compatible": "Whether later TensorRT versions of the same major load it.",
        "hardware_compatible": "Whether it runs on every GPU from compute capability 8.0 on.",
        "dla_core": "The DLA core that it runs on.",
    },
    "BuildRecord": {
        **_STEP,
        "plan_sha256": "The plan's digest.",
        "plan_bytes": "The plan's size in bytes.",
        "weights_sha256": "The digest of the plan's weights, where the plan's format shows them.",
        "graph_sha256": "The digest of the graph that was built.",
        "messages": "TensorRT's warnings.",
        "skipped_tactics": "How many kernels were not tried for want of GPU memory.",
        "refittable_weights": "The weights that can be replaced without a build.",
        "structure_sha256": "The digest of the graph without its weights.",
        "refitted_from": "The plan whose weights were replaced, if this one was not built anew.",
        "native_cache": "The ranges that TensorRT's own calibration found.",
        "precisions": "The shares of layers and weights in each precision, as TensorRT chose.",
        "fp32_fallback": "The layers that run in FP32 though less was asked for.",
        "timing_cache_sha256": "The digest of the timing cache with which the same build can be "
        "made again.",
    },
    "Precisions": {
        "layers": "The share of the layers that compute, by precision.",
        "weights": "The share of the weights, by precision.",
    },
    "CalibrationParameters": {
        "calibration": "The folder of images, or the cache.",
        "counting": "How images became ranges; not there for a cache.",
    },
    "CountingParameters": {"algorithm": "How ranges were chosen."},
    "CalibrationRecord": {
        **_STEP,
        "images": "How many images.",
        "images_sha256": "The digest of the images, with their names.",
        "cache_sha256": "The digest of the ranges.",
        "own_quantization": "Whether the model brought Q/DQ nodes of its own.",
    },
    "ClosenessRecord": {
        "max_abs": "The largest difference of a raw output.",
        "rms_relative": "The RMS difference of raw outputs, relative to the original's.",
        "nan_count": "How many outputs are NaN.",
        "inf_count": "How many outputs are infinite.",
        "first_overflow": "The first layer whose values FP16 could not hold.",
    },
    "ExportRecord": {
        **_STEP,
        "task": "What the outputs mean.",
        "stride": "Height and width are multiples of it.",
        "names": "The classes by their index.",
        "kpt_shape": "Keypoints of a pose, and the values of each.",
        "source_sha256": "The digest of the weights or of the .onnx.",
    },
    "MetricsRecord": {
        "map50_95": "mAP over the thresholds 0.50 to 0.95.",
        "map50": "mAP at the threshold 0.50.",
        "top1": "The share of right first guesses.",
        "top5": "The share of images whose class is among the first five guesses.",
        "miou": "Mean intersection over union of the classes.",
        "pixel_accuracy": "The share of pixels of the right class.",
        "cosine": "The mean cosine similarity of outputs.",
        "cosine_worst": "The least cosine similarity of a sample.",
        "score": "The mean of the team's own metric.",
        "score_worst": "Its least value of a sample.",
        "per_class": "The metric of each class, or of each output.",
    },
    "OutputRecord": {
        "rms_relative": "The RMS difference of this output, relative to the original's.",
        "max_abs": "The largest difference of this output.",
    },
    "PlanRecord": {
        "sha256": "The plan's digest.",
        "bytes": "The plan's size in bytes.",
        "weights_sha256": "The digest of the plan's weights, where the plan's format shows them.",
    },
    "Profile": {
        "min": "The smallest shape: batch, 3, height, width.",
        "opt": "The shape that the engine is fastest at.",
        "max": "The largest shape.",
    },
    "QuantizeRecord": {
        **_STEP,
        "sha256": "The typed graph's digest.",
        "calibration": "Where INT8's ranges are from.",
        "quantized": "The layers in INT8.",
        "excluded": "The layers that stay in FP16.",
    },
    "Recipe": {
        "step": "The step's name.",
        "version": "The step's version: raised when its output changes for the same inputs.",
        "tools": "The packages that shape the output, with their versions.",
        "parameters": "The step's parameters.",
    },
    "ReportRecord": {
        "closeness": "How far the raw outputs are from the original's.",
        "reference": "The original's metric.",
        "candidate": "The graph's metric.",
        "truth": "What counted as right: labels, or what the original found.",
        "outputs": "The differences of single outputs, by their names.",
    },
    "Source": {"source": "The model's file."},
    "StepRecord": _STEP,
    "Steps": {
        "export": "The FP32 original.",
        "simplify": "The simplified graph.",
        "quantize": "The typed graph that was built.",
        "validate": "The typed graph against the FP32 original.",
        "build": "The plan.",
        "register": "The tolerance that the engine was registered with.",
    },
    "ToleranceRecord": {
        "rms_relative": "How far raw outputs may be from the original's.",
        "map50_95_drop": "How much mAP50-95 may be lost.",
        "top1_drop": "How much top-1 accuracy may be lost.",
        "miou_drop": "How much mean IoU may be lost.",
        "cosine_drop": "How much cosine similarity may be lost.",
        "score_drop": "How much of the team's own metric may be lost.",
        "outputs": "Tolerances of single outputs, by their names.",
    },
    "ValidationParameters": {
        "validation": "The folder of validation images.",
        "judging": "How outputs are judged, if it is not Ultralytics' way against labels.",
    },
    "ValidationRecord": {
        **_STEP,
        "report": "The graph's numbers beside the original's.",
        "images": "How many images.",
        "images_sha256": "The digest of the images and labels, with their names.",
    },
}
