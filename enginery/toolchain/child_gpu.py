"""The child program's GPU half: what GPUs there are, TensorRT's own calibration, and an engine run and timed. Python 3.8+, NumPy, pycuda.

The primary context is retained, pushed, and popped at the end: a context left on pycuda's stack aborts the process at exit.
"""

import atexit
import ctypes
import os

import numpy as np
import pycuda.driver as cuda

WARM_UP_S = 1.0
CALIBRATION_BATCH = 8


def gpus():
    """What each visible GPU is, and why there are none."""
    try:
        cuda.init()
    except cuda.Error as error:
        return [], str(error)
    return [describe(cuda.Device(index)) for index in range(cuda.Device.count())], ""


def describe(device):
    return {
        "gpu": device.name(),
        "compute_capability": "{}.{}".format(*device.compute_capability()),
        "memory_mib": device.total_memory() >> 20,
        "driver_cuda": "{}.{}".format(cuda.get_driver_version() // 1000, cuda.get_driver_version() % 1000 // 10),
    }


class Context:
    """The primary context of a GPU, current inside `with`."""

    def __init__(self, index):
        cuda.init()
        self.context = cuda.Device(index).retain_primary_context()

    def __enter__(self):
        self.context.push()
        return self

    def __exit__(self, *_):
        cuda.Context.pop()
        self.context.detach()


def native_calibrator(trt, images, cache):
    """TensorRT's own entropy calibration: batches of a float32 .npy (n, 3, height, width) on the GPU; its cache is kept at `cache`."""
    context = Context(0)
    context.__enter__()
    atexit.register(context.__exit__)
    data = np.load(images, mmap_mode="r")

    class Native(trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.at = 0
            self.memory = cuda.mem_alloc(data[:CALIBRATION_BATCH].nbytes)

        def get_batch_size(self):
            return CALIBRATION_BATCH

        def get_batch(self, names):
            batch = data[self.at : self.at + CALIBRATION_BATCH]
            if len(batch) < CALIBRATION_BATCH:
                self.memory.free()
                return None
            self.at += CALIBRATION_BATCH
            cuda.memcpy_htod(self.memory, np.ascontiguousarray(batch))
            return [int(self.memory)]

        def read_calibration_cache(self):
            return None

        def write_calibration_cache(self, text):
            with open(cache + ".part", "wb") as file:
                file.write(bytes(text))
            os.replace(cache + ".part", cache)

    return Native()


def measure(trt, logger, errors, plan, request, out, refused):
    """Run every image of a .npy through an engine, write its outputs, and time it."""
    with Context(request["gpu"]):
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise refused("engine", "; ".join(errors[-3:]) or "TensorRT could not load it on this GPU and gave no reason")
        with Runner(trt, engine, request["batch"]) as runner:
            images = np.load(request["images"], mmap_mode="r")
            outputs = runner.run_all(images, lambda done: out.send("progress", phase="images", step=done, steps=len(images)))
            for name, values in outputs.items():
                np.save(os.path.join(request["outputs"], name + ".npy"), values)
            timing = {"gpu": runner.times(request["runs"], False), "with_transfers": runner.times(request["runs"], True)}
            if request["cuda_graph"]:
                timing["cuda_graph"] = runner.graph_times(request["runs"])
        gpu = describe(cuda.Device(request["gpu"]))
        memory = engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size
        out.send("result", timing=timing, outputs=sorted(outputs), gpu=gpu, device_memory=memory)
        del engine, runtime


class Runner:
    """An engine's buffers on the GPU and in pinned memory, for one batch size."""

    def __init__(self, trt, engine, batch):
        self.trt, self.engine, self.batch = trt, engine, batch
        self.context = engine.create_execution_context()
        self.stream = cuda.Stream()
        self.names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.host, self.device = {}, {}

    def __enter__(self):
        for name in self.inputs():
            self.context.set_input_shape(name, self.shape(self.engine.get_tensor_shape(name)))
        for name in self.names:
            kind = self.trt.nptype(self.engine.get_tensor_dtype(name))
            shape = tuple(self.context.get_tensor_shape(name))
            self.host[name] = cuda.pagelocked_zeros(shape, kind)
            self.device[name] = cuda.mem_alloc(self.host[name].nbytes)
            self.context.set_tensor_address(name, int(self.device[name]))
        return self

    def __exit__(self, *_):
        for memory in self.device.values():
            memory.free()
        self.host.clear()
        del self.context

    def inputs(self):
        return [name for name in self.names if self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT]

    def shape(self, found):
        return tuple(self.batch if index == 0 and size < 0 else size for index, size in enumerate(found))

    def enqueue(self, transfers):
        inputs = self.inputs()
        if transfers:
            for name in inputs:
                cuda.memcpy_htod_async(self.device[name], self.host[name], self.stream)
        if not self.context.execute_async_v3(self.stream.handle):
            raise RuntimeError("the engine refused to run")
        if transfers:
            for name in self.names:
                if name not in inputs:
                    cuda.memcpy_dtoh_async(self.host[name], self.device[name], self.stream)

    def run_all(self, images, progress):
        """Every image's outputs; a batch that is not full is filled with what was there before."""
        [name] = self.inputs()
        size = self.host[name].shape[0]
        found = {other: [] for other in self.names if other != name}
        for start in range(0, len(images), size):
            part = images[start : start + size]
            self.host[name][: len(part)] = part
            self.enqueue(True)
            self.stream.synchronize()
            for other in found:
                found[other].append(self.host[other][: len(part)].copy())
            progress(min(start + size, len(images)))
        return {other: np.concatenate(parts) for other, parts in found.items()}

    def times(self, runs, transfers):
        """Milliseconds of each run, by CUDA events, after a warm-up."""
        return self.timed(runs, lambda: self.enqueue(transfers))

    def graph_times(self, runs):
        """The same, replayed from a CUDA graph; None where the engine's work cannot be captured."""
        with CapturedGraph(self.stream, lambda: self.enqueue(False)) as captured:
            return self.timed(runs, captured.launch) if captured.ready else None

    def timed(self, runs, once):
        start, end = cuda.Event(), cuda.Event()
        milliseconds, warm = [], 0.0
        while len(milliseconds) < runs:
            start.record(self.stream)
            once()
            end.record(self.stream)
            end.synchronize()
            took = end.time_since(start)
            if warm < WARM_UP_S * 1000:
                warm += took
            else:
                milliseconds.append(took)
        return statistics(np.array(milliseconds))


class CapturedGraph:
    """What was enqueued on a stream, as a CUDA graph. pycuda has none: the driver is called directly."""

    RELAXED = 2

    def __init__(self, stream, enqueue):
        self.driver, self.stream = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(stream.handle)
        self.graph, self.executable = ctypes.c_void_p(), ctypes.c_void_p()
        self.ready = self.driver.cuStreamBeginCapture_v2(self.stream, self.RELAXED) == 0
        if self.ready:
            try:
                enqueue()
            except RuntimeError:
                self.ready = False
            ended = self.driver.cuStreamEndCapture(self.stream, ctypes.byref(self.graph)) == 0
            self.ready = self.ready and ended and self.instantiate()

    def instantiate(self):
        return self.driver.cuGraphInstantiateWithFlags(ctypes.byref(self.executable), self.graph, ctypes.c_ulonglong(0)) == 0

    def launch(self):
        if self.driver.cuGraphLaunch(self.executable, self.stream):
            raise RuntimeError("the CUDA graph did not launch")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.executable:
            self.driver.cuGraphExecDestroy(self.executable)
        if self.graph:
            self.driver.cuGraphDestroy(self.graph)


def statistics(milliseconds):
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    return {
        "mean": float(milliseconds.mean()), "min": float(milliseconds.min()), "max": float(milliseconds.max()),
        "p50": p50, "p90": p90, "p99": p99, "runs": len(milliseconds),
    }
