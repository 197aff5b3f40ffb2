"""build: an ONNX graph into a plan, by TensorRT's builder."""

import contextlib
import hashlib
import resource
import struct
import time

import calibrating
import precisions
import progress
import timing
from base import RefusedError, load, load_plugins, make_logger, write
from probing import full_version

# What TensorRT says of a failed build, and what it means.
MEANINGS = {
    "out of memory": "memory",
    "outofmemory": "memory",
    "insufficient workspace": "memory",
    "unable to load library": "library",
}


def main(request, out):
    trt = load(request["runtime"])
    with gpu(request):
        build(trt, make_logger(trt, out), request, out)


def build(trt, logger, request, out):
    began = time.monotonic()
    if request["plugins"]:
        load_plugins(trt, logger)
    builder = make_builder(trt, logger)
    network, parser = parse(trt, builder, logger, request)
    config = configure(trt, builder, network, request, out)
    fallback = use_dla(trt, builder, network, config, request["dla_core"])
    if request["timing_cache"]:
        timing.load(trt, config, request["timing_caches"], out)
    try:
        plan = builder.build_serialized_network(network, config)
    finally:
        if request["timing_cache"]:
            timing.save(config, request["timing_cache"])
    if plan is None:
        raise RefusedError(meaning(logger), logger.reason() or "TensorRT gave no reason")
    data = memoryview(plan).cast("B")  # no copy: a plan may have gigabytes
    write(request["plan"], data)  # a temporary name already: the client puts it in its place
    out.send(
        "result",
        plan_sha256=hashlib.sha256(data).hexdigest(),
        plan_bytes=len(data),
        weights_sha256=weights_digest(data),
        seconds=time.monotonic() - began,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        runtime_version=full_version(request["runtime"], trt),
        skipped_tactics=logger.skipped,
        dla_fallback=fallback,
        layers=precisions.layers_of(trt, logger, data, request)
        if request["runtime"] == "tensorrt"
        else [],
        refittable_weights=refittable_weights(trt, logger, data, request)
        if request["refittable"]
        else [],
    )
    del parser  # the parser must not outlive the network, nor the network the builder


def meaning(logger):
    """What a failed build means: TensorRT's last words are often of a later
    failure than the cause.
    """
    text = " ".join(logger.errors).lower()
    kinds = [kind for words, kind in MEANINGS.items() if words in text]
    if logger.skipped and "could not find any implementation" in text:
        kinds.append("memory")
    return kinds[0] if kinds else "build"


def gpu(request):
    """The GPU's context where this program itself uses the GPU."""
    if not request["native_images"]:
        return contextlib.nullcontext()
    import devices

    return devices.Context()


def make_builder(trt, logger):
    try:
        return trt.Builder(logger)
    except TypeError:  # what its bindings say of a builder that could not start
        raise RefusedError(
            "driver", "TensorRT does not start: {}".format(logger.reason() or "it gave no reason")
        )


def parse(trt, builder, logger, request):
    flags = 0
    if (
        hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
        and request["runtime"] == "tensorrt"
    ):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if request["strongly_typed"] and hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    network.name = request[
        "name"
    ]  # part of the plan: without a name of its own the plan differs from build to build
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(
        request["onnx"]
    )  # by its path, beside which a large graph has its weights
    if not parsed or parser.num_errors or not network.num_outputs:
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise RefusedError(
            "parse", "; ".join(map(parser_error, errors)) or "the graph has no outputs"
        )
    if request["channels_last"]:
        lay_channels_last(trt, network, request["channels_last"])
    return network, parser


def lay_channels_last(trt, network, name):
    """Let an input's bytes lie as cameras and decoders give them."""
    for index in range(network.num_inputs):
        if network.get_input(index).name == name:
            network.get_input(index).allowed_formats = 1 << int(trt.TensorFormat.HWC)


def parser_error(error):
    node = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    return " ".join("{} {} {}".format(operator, node, error.desc()).split())


def configure(trt, builder, network, request, out):
    config = builder.create_builder_config()
    if request["runtime"] == "tensorrt":
        config.profiling_verbosity = (
            trt.ProfilingVerbosity.DETAILED
        )  # costs no speed, and the inspector can tell what each layer does
        if not request["tf32"]:
            config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "FP16") and not request["strongly_typed"]:
        set_precision(trt, config, network, request)
    set_capability(trt, config, request)
    set_options(trt, config, request)
    for shapes in request["profiles"]:
        add_profile(builder, config, shapes)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = progress.make_monitor(trt, out)
    return config


def set_capability(trt, config, request):
    capability = request["compute_capability"]
    if capability:
        config.num_compute_capabilities = 1
        name = "SM" + capability.replace(".", "")
        if not hasattr(trt.ComputeCapability, name):
            raise RefusedError(
                "toolchain",
                "this {} knows no compute capability {}".format(request["runtime"], capability),
            )
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def set_options(trt, config, request):
    if request["workspace_mib"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace_mib"] << 20)
    if request["optimization_level"] is not None:
        config.builder_optimization_level = request["optimization_level"]
    if request["tactic_sources"] is not None:
        config.set_tactic_sources(tactic_mask(trt, request["tactic_sources"]))
    if request["sparsity"]:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if request["version_compatible"]:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if request["refittable"]:
        config.set_flag(trt.BuilderFlag.REFIT)
    if request["hardware_compatible"]:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def tactic_mask(trt, names):
    known = trt.TacticSource.__members__
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RefusedError(
            "parameter",
            "tactic_sources: {}: unknown; this version has {}".format(unknown[0], ", ".join(known)),
        )
    return sum(1 << int(known[name]) for name in names)


def set_precision(trt, config, network, request):
    """A weakly typed TensorRT (up to 10) takes the precision from flags, and INT8's ranges from a
    cache.
    """
    if request["precision"] == "fp32":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if request["precision"] == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
        if request["cache"]:
            config.int8_calibrator = make_calibrator(trt, network, request)
        keep_in_half(trt, config, network, set(request["fp16_layers"]))


def make_calibrator(trt, network, request):
    if not request["native_images"]:
        return calibrating.from_cache(trt, request["cache"])
    [shapes] = (
        request["profiles"][0].values()
        if request["profiles"]
        else [{"opt": network.get_input(0).shape}]
    )
    return calibrating.native(trt, request["native_images"], shapes["opt"][0], request["cache"])


def keep_in_half(trt, config, network, names):
    """What an exclusion rule names runs in fp16; what it writes, and the layers between two such
    ones, are TensorRT's own choice.
    """
    if not names:
        return
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in names:
            layer.precision = trt.DataType.HALF


def use_dla(trt, builder, network, config, core):
    """Run on a DLA core what can; the names of the layers that fall back to the GPU."""
    if core is None:
        return []
    if core >= builder.num_DLA_cores:
        raise RefusedError(
            "parameter",
            "dla_core: {}: this GPU has {} DLA cores".format(core, builder.num_DLA_cores),
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return [layer.name for layer in layers if not config.can_run_on_DLA(layer)]


def add_profile(builder, config, shapes):
    profile = builder.create_optimization_profile()
    try:
        for name, shape in shapes.items():
            profile.set_shape(name, shape["min"], shape["opt"], shape["max"])
    except (ValueError, TypeError) as error:
        raise RefusedError("profile", str(error))
    if config.add_optimization_profile(profile) < 0:
        raise RefusedError("profile", "TensorRT refused the optimization profile {}".format(shapes))


def refittable_weights(trt, logger, data, request):
    """The weights of a plan that can be replaced, by name."""
    runtime = trt.Runtime(logger)
    if request["version_compatible"]:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise RefusedError("build", "its own plan does not load: {}".format(logger.reason()))
    return sorted(trt.Refitter(engine, logger).get_all_weights())


def weights_digest(data):
    """Digest of the weights section, or None where a plan has none.

    A TensorRT-RTX plan has a table at byte 64: rows of a tag (8 bytes), an offset and a size; the
    weights' tag reads THGW.
    """
    for start in range(64, 64 + 16 * 24, 24):
        tag, offset, size = (
            struct.unpack_from("<8sQQ", data, start) if start + 24 <= len(data) else (b"", 0, 0)
        )
        if tag[:4] == b"THGW" and offset + size <= len(data):
            return hashlib.sha256(data[offset : offset + size]).hexdigest()
    return None
