"""serve: an engine that stays loaded, and runs the arrays of one call after another.

It says `ready` once, and what the engine takes and gives. Then each line of standard input is a
call, {"inputs": {name: .npy file}, "outputs": folder}; its answer is `ran` with the outputs' files
and the milliseconds with transfers, or `refused`. It ends when standard input does.
"""

import json
import os
import sys

import numpy as np
from base import RefusedError, load, make_logger
from devices import Context, cuda, describe
from engines import Loaded, Runner


def main(request, out):
    trt = load(request["runtime"])
    with Context():
        serve(trt, make_logger(trt, out), request, out, sys.stdin)
    out.send("result")


def serve(trt, logger, request, out, calls):
    with Loaded(trt, logger, request) as engine:
        tensors = Runner(trt, engine, ())
        out.send(
            "ready",
            inputs={name: dtype(trt, engine, name) for name in tensors.inputs()},
            outputs=tensors.outputs(),
            gpu=describe(cuda.Device(0), 0),
        )
        Calls(trt, engine, out).answer(calls)


def dtype(trt, engine, name):
    return np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name


class Calls:
    """The calls of one client. Buffers are kept while the shapes stay the same."""

    def __init__(self, trt, engine, out):
        self.trt, self.engine, self.out, self.runner = trt, engine, out, None

    def answer(self, calls):
        try:
            for line in calls:
                try:
                    files, milliseconds = self.run(json.loads(line))
                    self.out.send("ran", files=files, milliseconds=milliseconds)
                except RefusedError as refused:
                    self.out.send("refused", kind=refused.kind, message=str(refused))
        finally:
            self.free()

    def run(self, call):
        arrays = {name: np.load(path) for name, path in call["inputs"].items()}
        runner = self.runner_for({name: array.shape for name, array in arrays.items()})
        for name, array in arrays.items():
            runner.host[name][...] = array
        milliseconds = runner.once(lambda: runner.enqueue(True))
        files = {}
        for number, name in enumerate(runner.outputs()):
            files[name] = os.path.join(call["outputs"], "{}.npy".format(number))
            np.save(files[name], runner.host[name])
        return files, milliseconds

    def runner_for(self, shapes):
        if self.runner is None or self.runner.shapes != shapes:
            self.free()
            self.runner = self.first_that_takes(shapes)
        return self.runner

    def first_that_takes(self, shapes):
        """A runner in the first profile that these shapes fit into."""
        last = self.engine.num_optimization_profiles - 1
        for profile in range(last + 1):
            runner = ArrayRunner(self.trt, self.engine, shapes, profile)
            try:
                return runner.__enter__()
            except RefusedError:
                if profile == last:
                    raise

    def free(self):
        if self.runner is not None:
            self.runner.__exit__()
            self.runner = None


class ArrayRunner(Runner):
    """A runner of an engine with any number of inputs, each of a shape of its own."""

    def __init__(self, trt, engine, shapes, profile):
        Runner.__init__(self, trt, engine, (), profile)
        self.shapes = shapes

    def set_shape(self, name):
        self.input_shape = tuple(self.shapes[name])
        Runner.set_shape(self, name)
