"""inspect: what an engine is made of, as TensorRT's inspector tells, and what each layer takes of a
run.
"""

import json
from statistics import median

from base import load, make_logger
from devices import Context
from engines import Loaded, Runner, memory_size

WARM_UP_RUNS, RUNS = 20, 50


def main(request, out):
    trt = load(request["runtime"])
    with Context():
        inspect(trt, make_logger(trt, out), request, out)


def inspect(trt, logger, request, out):
    with Loaded(trt, logger, request) as engine, Runner(trt, engine, request["shape"]) as runner:
        inspector = engine.create_engine_inspector()
        inspector.execution_context = runner.context
        description = json.loads(
            inspector.get_engine_information(trt.LayerInformationFormat.JSON), strict=False
        )  # 8.6 writes control characters
        times = layer_times(trt, runner)
        out.send(
            "result",
            layers=description["Layers"],
            bindings=description.get("Bindings", []),
            milliseconds={name: sum(runs) / RUNS for name, runs in times.items()},
            medians={name: median(runs) for name, runs in times.items()},
            runs=RUNS,
            device_memory=memory_size(engine),
        )


def layer_times(trt, runner):
    """Milliseconds of each layer in each run, by name; layers of one name are added up."""

    class Times(trt.IProfiler):
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.run = 0
            self.times = {}

        def report_layer_time(self, layer_name, ms):
            self.times.setdefault(layer_name, [0.0] * RUNS)[self.run] += ms

    for _ in range(WARM_UP_RUNS):
        runner.enqueue()
    runner.stream.synchronize()
    times = Times()
    runner.context.profiler = times
    for times.run in range(RUNS):
        runner.enqueue()
        runner.stream.synchronize()
    return times.times
