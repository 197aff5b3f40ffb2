"""measure: an engine on its GPU: the outputs for real images at each point of its profiles, and its
speed.

A point is an input shape (batch, channels, height, width) in a profile, with the images (an .npy
of the input's type) that are run at it.
"""

import ctypes
import time

import numpy as np
from base import RefusedError, load, make_logger
from devices import Context, cuda, describe
from engines import Loaded, Runner, memory_size

WARM_UP_S = 1
TRIES = 3  # of a timing that something else disturbed


def main(request, out):
    trt = load(request["runtime"])
    with Context():
        measure(trt, make_logger(trt, out), request, out)


def measure(trt, logger, request, out):
    with Loaded(trt, logger, request) as engine:
        points = [measured(trt, engine, point, request, out) for point in request["points"]]
        out.send(
            "result",
            points=points,
            gpu=describe(cuda.Device(0), 0),
            device_memory=memory_size(engine),
        )


def measured(trt, engine, point, request, out):
    with Runner(trt, engine, point["shape"], point["profile"]) as runner:
        runner.enqueue()  # the first run loads kernels; it is nobody's time
        images = np.load(point["images"], mmap_mode="r")

        def told(done):
            out.send("progress", phase="images", step=done, steps=len(images))

        milliseconds = runner.run_all(images, point["outputs"], told)
        result = {"outputs": runner.outputs(), "milliseconds": milliseconds}
        if request["runs"] and point["timed"]:
            result["timing"] = timings(runner, request["runs"], request["noisy"], out)
        return result


def timings(runner, runs, noisy, out):
    """Milliseconds a batch on the GPU alone, with transfers, and replayed from a CUDA graph (None
    where it cannot be captured).
    """

    def timed(phase, once):
        for done in range(1, TRIES + 1):
            out.send("progress", phase="timing " + phase, step=done - 1, steps=TRIES)
            timing = statistics(repeat(runner, runs, once))
            out.send("progress", phase="timing " + phase, step=done, steps=TRIES)
            if timing["p90"] <= noisy * timing["p50"]:
                break
        return timing

    with CapturedGraph(runner) as captured:
        return {
            "gpu": timed("gpu", runner.enqueue),
            "with_transfers": timed("with transfers", lambda: runner.enqueue(True)),
            "cuda_graph": timed("cuda graph", captured.launch) if captured.ready else None,
            "images_per_second": throughput(runner, runs),
        }


def repeat(runner, runs, once):
    warm = time.monotonic() + WARM_UP_S
    while time.monotonic() < warm:
        runner.once(once)
    return np.array([runner.once(once) for _ in range(runs)])


def throughput(runner, runs):
    """Images a second, batches enqueued without waiting for each other."""

    def work():
        for _ in range(runs):
            runner.enqueue()

    return runs * runner.input_shape[0] * 1000 / runner.once(work)


def statistics(milliseconds):
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    return {
        "mean": float(milliseconds.mean()),
        "min": float(milliseconds.min()),
        "max": float(milliseconds.max()),
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "runs": len(milliseconds),
    }


class CapturedGraph:
    """One run of an engine as a CUDA graph. pycuda has none: the driver is called directly."""

    RELAXED = 2

    def __init__(self, runner):
        self.driver, self.stream = (
            ctypes.CDLL("libcuda.so.1"),
            ctypes.c_void_p(runner.stream.handle),
        )
        self.graph, self.executable = ctypes.c_void_p(), ctypes.c_void_p()
        self.ready = self.driver.cuStreamBeginCapture_v2(self.stream, self.RELAXED) == 0
        if self.ready:
            try:
                runner.enqueue()
            except RefusedError:
                self.ready = False
            ended = self.driver.cuStreamEndCapture(self.stream, ctypes.byref(self.graph)) == 0
            self.ready = self.ready and ended and self.instantiate()

    def instantiate(self):
        return (
            self.driver.cuGraphInstantiateWithFlags(
                ctypes.byref(self.executable), self.graph, ctypes.c_ulonglong(0)
            )
            == 0
        )

    def launch(self):
        if self.driver.cuGraphLaunch(self.executable, self.stream):
            raise RefusedError("engine", "the CUDA graph did not launch")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.executable:
            self.driver.cuGraphExecDestroy(self.executable)
        if self.graph:
            self.driver.cuGraphDestroy(self.graph)
