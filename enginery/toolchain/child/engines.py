"""A plan loaded on the GPU, its buffers, and one run of it."""

import os

import numpy as np
import pycuda.driver as cuda
from base import RefusedError, load_plugins

if not hasattr(np, "bool"):
    np.bool = np.bool_  # TensorRT 8.5 and NumPy 1.24 to 1.26 differ about this name


class Loaded:
    """The engine of a request, alive inside `with`."""

    def __init__(self, trt, logger, request):
        self.trt, self.logger = trt, logger
        if request["plugins"]:
            load_plugins(trt, logger)
        self.runtime = runtime = trt.Runtime(logger)
        if request["host_code"]:
            runtime.engine_host_code_allowed = (
                True  # a version-compatible plan brings a lean runtime of its own
            )
        if request["dla_core"] is not None:
            runtime.DLA_core = request["dla_core"]
        self.engine = runtime.deserialize_cuda_engine(request["data"])

    def __enter__(self):
        if self.engine is None:
            raise RefusedError(
                "engine",
                self.logger.reason() or "TensorRT could not load it on this GPU and gave no reason",
            )
        return self.engine

    def __exit__(self, *_):
        del self.engine, self.runtime


class Runner:
    """An engine's buffers on the GPU and in pinned memory, for one profile and input shape (batch,
    channels, height, width).
    """

    def __init__(self, trt, engine, shape, profile=0):
        self.trt, self.engine, self.input_shape, self.profile = trt, engine, tuple(shape), profile
        self.names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.host, self.device = {}, {}

    def __enter__(self):
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise RefusedError(
                "memory",
                "no room on the GPU for the engine's {} MiB".format(memory_size(self.engine) >> 20),
            )
        self.stream = cuda.Stream()
        if self.profile:
            self.context.set_optimization_profile_async(self.profile, self.stream.handle)
        for name in self.inputs():
            self.set_shape(name)
        for name in self.names:
            kind = self.trt.nptype(self.engine.get_tensor_dtype(name))
            self.host[name] = cuda.pagelocked_zeros(
                tuple(self.context.get_tensor_shape(name)), kind
            )
            self.device[name] = cuda.mem_alloc(self.host[name].nbytes)
            self.context.set_tensor_address(name, int(self.device[name]))
        return self

    def __exit__(self, *_):
        for memory in self.device.values():
            memory.free()
        self.host.clear()
        del self.context

    def set_shape(self, name):
        low, _, high = (
            tuple(shape) for shape in self.engine.get_tensor_profile_shape(name, self.profile)
        )
        fits = len(low) == len(self.input_shape) and all(
            a <= size <= b for a, size, b in zip(low, self.input_shape, high)
        )
        if not fits or not self.context.set_input_shape(name, self.input_shape):
            limits = "takes {}".format(low) if low == high else "takes {} to {}".format(low, high)
            raise RefusedError(
                "engine",
                "input {} {} in profile {}, not {}".format(
                    name, limits, self.profile, self.input_shape
                ),
            )

    def inputs(self):
        return [
            name
            for name in self.names
            if self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT
        ]

    def outputs(self):
        return [
            name
            for name in self.names
            if self.engine.get_tensor_mode(name) != self.trt.TensorIOMode.INPUT
        ]

    def enqueue(self, transfers=False):
        if transfers:
            for name in self.inputs():
                cuda.memcpy_htod_async(self.device[name], self.host[name], self.stream)
        if not self.context.execute_async_v3(self.stream.handle):
            raise RefusedError("engine", "the engine refused to run")
        if transfers:
            for name in self.outputs():
                cuda.memcpy_dtoh_async(self.host[name], self.device[name], self.stream)

    def run_all(self, images, folder, progress):
        """Write every image's outputs into a folder, 0.npy, 1.npy ... in the engine's order; each
        batch's milliseconds with its transfers.

        A batch that is not full is filled with what was there before.
        """
        [name] = self.inputs()
        size = len(self.host[name])
        files, milliseconds = (
            [self.file(folder, number, len(images)) for number in range(len(self.outputs()))],
            [],
        )
        for start in range(0, len(images), size):
            rows = images[start : start + size]
            self.host[name][: len(rows)] = rows
            milliseconds.append(self.once(lambda: self.enqueue(True)))
            for file, output in zip(files, self.outputs()):
                file[start : start + len(rows)] = self.host[output][: len(rows)]
            progress(min(start + size, len(images)))
        for file in files:
            file.flush()
        return milliseconds

    def file(self, folder, number, images):
        """An output of all images on the disk: they need not fit into memory."""
        one = self.host[self.outputs()[number]]
        path = os.path.join(folder, "{}.npy".format(number))
        return np.lib.format.open_memmap(
            path, mode="w+", dtype=one.dtype, shape=(images, *one.shape[1:])
        )

    def once(self, work):
        """Milliseconds that `work` takes on the stream, by CUDA events."""
        start, end = cuda.Event(), cuda.Event()
        start.record(self.stream)
        work()
        end.record(self.stream)
        end.synchronize()
        return end.time_since(start)


def memory_size(engine):
    return (
        engine.device_memory_size_v2
        if hasattr(engine, "device_memory_size_v2")
        else engine.device_memory_size
    )
