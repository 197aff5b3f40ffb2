"""GPUs through pycuda: what there is, and the primary context. Everything taken is given back."""

import ctypes
import traceback

import pycuda.driver as cuda


def visible():
    """What each visible GPU is, and why there are none."""
    try:
        cuda.init()
    except cuda.Error as error:
        return [], str(error)
    return [describe(cuda.Device(index), index) for index in range(cuda.Device.count())], ""


def describe(device, index):
    return {
        "gpu": device.name(),
        "uuid": uuid(index),
        "compute_capability": "{}.{}".format(*device.compute_capability()),
        "memory_mib": device.total_memory() >> 20,
        "driver_cuda": "{}.{}".format(
            cuda.get_driver_version() // 1000, cuda.get_driver_version() % 1000 // 10
        ),
    }


def uuid(index):
    """A device's UUID as NVIDIA's tools write it. pycuda does not tell it: the driver is asked
    directly.
    """
    raw = ctypes.create_string_buffer(16)
    if ctypes.CDLL("libcuda.so.1").cuDeviceGetUuid(raw, ctypes.c_int(index)):
        return ""
    digits = raw.raw.hex()
    return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Context:
    """The first visible GPU's primary context, current inside `with`.

    What uses the GPU must be gone at its end: call a function inside, so that its names go with it.
    The context is popped, because one left on pycuda's stack aborts the process at exit.
    """

    def __enter__(self):
        cuda.init()
        self.context = cuda.Device(0).retain_primary_context()
        self.context.push()
        return self

    def __exit__(self, kind, error, trace):
        if trace:
            traceback.clear_frames(trace)  # an error would keep engines alive past their context
        cuda.Context.pop()
        self.context.detach()
