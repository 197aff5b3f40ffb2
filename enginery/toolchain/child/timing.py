"""Timing caches: what TensorRT measured of its kernels, merged from several builds and kept for the
next.

Where the version has an editable cache, it also makes the same choices again.
"""

import os

from base import write_whole


def load(trt, config, paths, out):
    """Give the builder all caches that are for this TensorRT and GPU, as one."""
    if hasattr(trt.BuilderFlag, "EDITABLE_TIMING_CACHE"):
        config.set_flag(trt.BuilderFlag.EDITABLE_TIMING_CACHE)
    merged = None
    for path in paths:
        cache = read(config, path)
        if cache is None:
            taken = False
        elif merged is None:
            taken = config.set_timing_cache(cache, False)
            merged = cache if taken else None
        else:
            taken = merged.combine(cache, False)
        if not taken:
            out.send(
                "log",
                severity="warning",
                message="{}: not of this TensorRT and GPU, left out".format(path),
            )
    if merged is None:
        config.set_timing_cache(config.create_timing_cache(b""), False)


def read(config, path):
    if not os.path.getsize(path):
        return None
    with open(path, "rb") as file:
        return config.create_timing_cache(file.read())


def save(config, path):
    cache = config.get_timing_cache()
    write_whole(path, bytes(memoryview(cache.serialize())))
