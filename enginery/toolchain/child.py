"""The child program of a toolchain: one TensorRT, one request, then gone. Self-contained: Python 3.8+ and the TensorRT module; pycuda
and NumPy (in child_gpu.py beside it) where a GPU is touched.

One JSON request comes in on standard input; JSON lines go out on standard output:
    {"event": "log", "severity": ..., "message": ...}    what TensorRT says
    {"event": "progress", "phase": ..., "step": ..., "steps": ...}
and last {"event": "result", ...} (exit 0) or {"event": "error", "kind": ..., "message": ...} (exit 1).
"""

import ctypes
import hashlib
import importlib
import json
import os
import platform
import resource
import signal
import struct
import sys
import time
from importlib import metadata

PR_SET_PDEATHSIG = 1
NO_RANGE = "Missing scale and zero-point for tensor"
PACKAGES = {
    "tensorrt_rtx": ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
    "tensorrt": ("tensorrt", "tensorrt_cu13", "tensorrt_cu12"),
}


class Refused(Exception):
    """The request cannot be done; `kind` tells the client which error to raise."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Out:
    """The event stream. File descriptor 1 itself goes to standard error, for libraries that print."""

    def __init__(self):
        self.stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event, **fields):
        self.stream.write(json.dumps(dict(fields, event=event)) + "\n")
        self.stream.flush()


def die_with_parent():
    """A builder without its client would go on for minutes and write for nobody."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def load(runtime):
    try:
        return importlib.import_module(runtime)
    except ImportError as error:
        raise Refused("toolchain", "cannot import {}: {}".format(runtime, error))


def full_version(runtime, module):
    for package in PACKAGES[runtime]:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return module.__version__


def probe(request, out):
    trt = load(request["runtime"])
    names = [name for name in dir(getattr(trt, "ComputeCapability", object)) if name.startswith("SM") and name[2:].isdigit()]
    numbers = sorted(int(name[2:]) for name in names)
    gpus, reason = visible_gpus() if request["runtime"] == "tensorrt" else ([], "")
    out.send(
        "result",
        runtime=request["runtime"],
        version=full_version(request["runtime"], trt),
        python=platform.python_version(),
        platform="{}_{}".format(sys.platform, platform.machine()),
        strongly_typed_only=not hasattr(trt.BuilderFlag, "FP16"),
        calibrators=hasattr(trt, "IInt8EntropyCalibrator2"),
        progress_monitor=hasattr(trt, "IProgressMonitor"),
        timing_cache=hasattr(trt.IBuilderConfig, "create_timing_cache"),
        compute_capabilities=[gpu["compute_capability"] for gpu in gpus] or ["{}.{}".format(n // 10, n % 10) for n in numbers],
        gpus=gpus,
        no_gpu=reason,
    )


def visible_gpus():
    """The GPUs that this toolchain's pycuda sees, and why there are none."""
    try:
        import child_gpu
    except ImportError as error:
        return [], "pycuda or NumPy is missing: {}".format(error)
    except Exception as error:  # a pycuda built for another driver fails in its own ways
        return [], str(error)
    return child_gpu.gpus()


def make_logger(trt, out, errors):
    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, message):
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                errors.append(message)
                out.send("log", severity="error", message=message)
            elif severity == trt.ILogger.WARNING and message.startswith(NO_RANGE):
                out.send("log", severity="debug", message=message)  # one line for each tensor around a layer in fp16
            elif severity == trt.ILogger.WARNING:
                out.send("log", severity="warning", message=message)
            elif severity == trt.ILogger.INFO:
                out.send("log", severity="debug", message=message)

    return Logger()


def make_monitor(trt, out):
    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.steps = {}
            self.said = 0.0

        def phase_start(self, phase_name, parent_phase, num_steps):
            self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name):
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name, step):
            now = time.monotonic()
            if now - self.said > 0.2:
                self.said = now
                out.send("progress", phase=phase_name, step=step, steps=self.steps.get(phase_name, 0))
            return True

    return Monitor()


def parse(trt, builder, logger, request):
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") and request["runtime"] == "tensorrt":
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    network.name = request["name"]  # part of the plan: without a name of its own the plan differs from build to build
    parser = trt.OnnxParser(network, logger)
    with open(request["onnx"], "rb") as file:
        parsed = parser.parse(file.read())
    if not parsed or parser.num_errors or not network.num_outputs:
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        raise Refused("parse", "; ".join(map(parser_error, found)) or "the graph has no outputs")
    return network, parser


def parser_error(error):
    node = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    return " ".join("{} {} {}".format(operator, node, error.desc()).split())


def configure(trt, builder, network, request, out):
    config = builder.create_builder_config()
    if hasattr(trt.BuilderFlag, "FP16"):
        set_precision(trt, config, network, request)
    capability = request["compute_capability"]
    if capability:
        config.num_compute_capabilities = 1
        name = "SM" + capability.replace(".", "")
        if not hasattr(trt.ComputeCapability, name):
            raise Refused("toolchain", "this {} knows no compute capability {}".format(request["runtime"], capability))
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
    if request["workspace_mib"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace_mib"] << 20)
    if request["optimization_level"] is not None:
        config.builder_optimization_level = request["optimization_level"]
    if request["tactic_sources"] is not None:
        config.set_tactic_sources(tactic_mask(trt, request["tactic_sources"]))
    if request["profile"]:
        add_profile(builder, config, request["profile"])
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = make_monitor(trt, out)
    return config


def tactic_mask(trt, names):
    known = trt.TacticSource.__members__
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Refused("parameter", "tactic_sources: {}: unknown; this version has {}".format(unknown[0], ", ".join(known)))
    return sum(1 << int(known[name]) for name in names)


def set_precision(trt, config, network, request):
    """A weakly typed TensorRT (up to 10) takes the precision from flags, and INT8's ranges from a cache."""
    config.clear_flag(trt.BuilderFlag.TF32)
    if request["precision"] == "fp32":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if request["precision"] == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
        config.int8_calibrator = make_calibrator(trt, request)
        keep_in_half(trt, config, network, set(request["float_layers"]))


def make_calibrator(trt, request):
    if request["native_images"]:
        import child_gpu

        return child_gpu.native_calibrator(trt, request["native_images"], request["cache"])
    with open(request["cache"], "rb") as file:
        text = file.read()

    class FromCache(trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self):
            return 1

        def get_batch(self, names):
            return None  # asked for only if the cache were not taken

        def read_calibration_cache(self):
            return text

        def write_calibration_cache(self, cache):
            pass

    return FromCache()


def keep_in_half(trt, config, network, names):
    """What an exclusion rule names runs in fp16; the layers between two such ones are TensorRT's own choice."""
    if not names:
        return
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in names:
            layer.precision = trt.DataType.HALF
            for output in range(layer.num_outputs):
                layer.set_output_type(output, trt.DataType.HALF)


def load_timing_cache(config, path):
    if path and hasattr(config, "create_timing_cache"):
        data = b""
        if os.path.exists(path):
            with open(path, "rb") as file:
                data = file.read()
        cache = config.create_timing_cache(data)
        if not config.set_timing_cache(cache, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)


def save_timing_cache(config, path):
    if path and hasattr(config, "get_timing_cache"):
        write_whole(path, bytes(memoryview(config.get_timing_cache().serialize())))


def write_whole(path, data):
    partial = "{}.{}.part".format(path, os.getpid())
    write(partial, data)
    os.replace(partial, path)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def add_profile(builder, config, shapes):
    profile = builder.create_optimization_profile()
    try:
        for name, shape in shapes.items():
            profile.set_shape(name, shape["min"], shape["opt"], shape["max"])
    except (ValueError, TypeError) as error:
        raise Refused("profile", str(error))
    if config.add_optimization_profile(profile) < 0:
        raise Refused("profile", "TensorRT refused the optimization profile {}".format(shapes))


def build(request, out):
    began = time.monotonic()
    trt = load(request["runtime"])
    errors = []
    logger = make_logger(trt, out, errors)
    builder = trt.Builder(logger)
    network, parser = parse(trt, builder, logger, request)
    config = configure(trt, builder, network, request, out)
    load_timing_cache(config, request["timing_cache"])
    plan = builder.build_serialized_network(network, config)
    save_timing_cache(config, request["timing_cache"])
    if plan is None:
        text = "; ".join(errors[-3:]) or "TensorRT gave no reason"
        raise Refused("memory" if "out of memory" in text.lower() else "build", text)
    data = bytes(memoryview(plan))
    write(request["plan"], data)  # a temporary name already: the client puts it in its place
    out.send(
        "result",
        plan_sha256=hashlib.sha256(data).hexdigest(),
        plan_bytes=len(data),
        weights_sha256=weights_digest(data),
        seconds=time.monotonic() - began,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        runtime_version=full_version(request["runtime"], trt),
    )
    del parser  # the parser must not outlive the network, nor the network the builder


def measure(request, out):
    """Run an engine on its GPU."""
    trt = load(request["runtime"])
    errors = []
    logger = make_logger(trt, out, errors)
    with open(request["plan"], "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != request["plan_sha256"]:  # an engine is code: its digest comes before the load
        raise Refused("integrity", "its digest is not the one recorded")
    try:
        import child_gpu
    except ImportError as error:
        raise Refused("toolchain", "pycuda and NumPy are needed to run an engine: {}".format(error))
    try:
        child_gpu.measure(trt, logger, errors, data, request, out, Refused)
    except child_gpu.cuda.Error as error:
        raise Refused("engine", str(error))


def weights_digest(data):
    """Digest of the weights section, or None where a plan has none.

    A TensorRT-RTX plan has a table at byte 64: rows of a tag (8 bytes), an offset and a size; the weights' tag reads THGW.
    """
    for start in range(64, 64 + 16 * 24, 24):
        tag, offset, size = struct.unpack_from("<8sQQ", data, start) if start + 24 <= len(data) else (b"", 0, 0)
        if tag[:4] == b"THGW" and offset + size <= len(data):
            return hashlib.sha256(data[offset : offset + size]).hexdigest()
    return None


def main():
    die_with_parent()
    out = Out()
    try:
        request = json.loads(sys.stdin.read())
        {"probe": probe, "build": build, "measure": measure}[request["do"]](request, out)
    except Refused as refused:
        out.send("error", kind=refused.kind, message=" ".join(str(refused).split()))
        return 1
    except MemoryError:
        out.send("error", kind="memory", message="out of memory")
        return 1
    except OSError as error:
        out.send("error", kind="file", message="{}: {}".format(error.strerror or error, error.filename or request.get("plan", "")))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
