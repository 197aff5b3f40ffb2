"""probe: what this toolchain is: TensorRT, Python, what that version can do,
and the GPUs it sees.
"""

import ctypes
import platform
import sys
from importlib import metadata

from base import load

PACKAGES = {  # of another runtime, the package of its name
    "tensorrt_rtx": ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
    "tensorrt": ("tensorrt", "tensorrt_cu13", "tensorrt_cu12"),
}


def main(request, out):
    trt = load(request["runtime"])
    gpus, reason, blind = visible_gpus()
    out.send(
        "result",
        runtime=request["runtime"],
        version=full_version(request["runtime"], trt),
        python=platform.python_version(),
        platform="{}_{}".format(sys.platform, platform.machine()),
        features=[name for name, has in features(trt).items() if has],
        compute_capabilities=named_capabilities(trt) or [gpu["compute_capability"] for gpu in gpus],
        gpus=gpus,
        no_gpu=reason,
        blind=blind,
    )


def full_version(runtime, module):
    for package in PACKAGES.get(runtime, (runtime,)):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return module.__version__


def features(trt):
    flags, config = trt.BuilderFlag, trt.IBuilderConfig
    weak = hasattr(flags, "FP16")
    return {
        "weak typing": weak,
        "strong typing": not weak or hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
        "calibrators": hasattr(trt, "IInt8EntropyCalibrator2"),
        "fp8": hasattr(trt.DataType, "FP8"),
        "timing cache": hasattr(config, "create_timing_cache"),
        "editable timing cache": hasattr(flags, "EDITABLE_TIMING_CACHE"),
        "refit": hasattr(flags, "REFIT"),
        "optimization level": hasattr(config, "builder_optimization_level"),
        "sparsity": hasattr(flags, "SPARSE_WEIGHTS"),
        "version compatible": hasattr(flags, "VERSION_COMPATIBLE"),
        "hardware compatible": hasattr(trt, "HardwareCompatibilityLevel"),
        "DLA": hasattr(config, "DLA_core"),
        "progress": hasattr(trt, "IProgressMonitor"),
        "EfficientNMS": has_plugin(trt, "EfficientNMS_TRT"),
    }


def has_plugin(trt, name):
    """Whether NVIDIA's plugins are there, and one of them has this name."""
    if not hasattr(trt, "init_libnvinfer_plugins"):
        return False
    trt.init_libnvinfer_plugins(None, "")
    registry = trt.get_plugin_registry()
    older = getattr(registry, "plugin_creator_list", ())  # up to 10
    creators = getattr(registry, "all_creators", older)
    return any(creator.name == name for creator in creators)


def named_capabilities(trt):
    names = [
        name
        for name in dir(getattr(trt, "ComputeCapability", object))
        if name.startswith("SM") and name[2:].isdigit()
    ]
    return [
        "{}.{}".format(number // 10, number % 10)
        for number in sorted(int(name[2:]) for name in names)
    ]


def visible_gpus():
    """The GPUs that this toolchain's pycuda sees, why there are none, and whether that is the
    toolchain's own fault.
    """
    try:
        import devices
    # where there is no driver, it may be as it should: pycuda cannot even be imported there
    except ImportError as error:
        return [], "NumPy or pycuda does not work: {}".format(error), has_driver()
    return (*devices.visible(), False)


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
