"""refit: a plan's weights replaced by others of the same graph, without building."""

import hashlib
import time

import numpy as np
from base import RefusedError, load, make_logger, write
from devices import Context
from engines import Loaded
from probing import full_version


def main(request, out):
    trt = load(request["runtime"])
    with Context():
        refit(trt, make_logger(trt, out), request, out)


def refit(trt, logger, request, out):
    began = time.monotonic()
    with Loaded(trt, logger, request) as engine:
        set_weights(trt, engine, logger, request)
        data = bytes(memoryview(engine.serialize()))
        write(request["out"], data)
        out.send(
            "result",
            plan_sha256=hashlib.sha256(data).hexdigest(),
            plan_bytes=len(data),
            seconds=time.monotonic() - began,
            runtime_version=full_version(request["runtime"], trt),
        )


def set_weights(trt, engine, logger, request):
    """All that is given; what the engine has beside it (constants that no initializer holds) stays
    as it was built.
    """
    refitter = trt.Refitter(engine, logger)
    kept = []  # the refitter copies nothing
    with np.load(request["weights"]) as weights:
        for key in weights.files:
            name = key[len(request["prefix"]) :]
            kept.append(np.ascontiguousarray(weights[key]).ravel())
            if not refitter.set_named_weights(name, trt.Weights(kept[-1])):
                raise RefusedError(
                    "refit",
                    "the weights {} do not fit: {}".format(
                        name, logger.reason() or "the plan has none of this name"
                    ),
                )
    if request["ranges"]:
        set_ranges(refitter, request["ranges"])
    missing = refitter.get_missing_weights()
    if missing or not refitter.refit_cuda_engine():
        raise RefusedError(
            "refit",
            "still needed: " + ", ".join(missing[:3])
            if missing
            else logger.reason() or "TensorRT gave no reason",
        )


def set_ranges(refitter, ranges):
    """INT8's ranges, by tensor: the largest magnitude."""
    tensors = refitter.get_tensors_with_dynamic_range()
    if not tensors:
        raise RefusedError("refit", "this plan's INT8 ranges cannot be replaced")
    for tensor in tensors:
        if tensor not in ranges:
            raise RefusedError("refit", "there is no range for {}".format(tensor))
        refitter.set_dynamic_range(tensor, (-ranges[tensor], ranges[tensor]))
