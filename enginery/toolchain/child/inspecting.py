"""inspect: what an engine is made of, as TensorRT's inspector tells, and what each layer takes of a
run.
"""

import json

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
        out.send(
            "result",
            layers=description["Layers"],
            milliseconds=layer_times(trt, runner),
            device_memory=memory_size(engine),
        )


def layer_times(trt, runner):
    """Mean milliseconds of each layer, by name."""

    class Times(trt.IProfiler):
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.total = {}

        def report_layer_time(self, layer_name, ms):
            self.total[layer_name] = self.total.get(layer_name, 0.0) + ms

    for _ in range(WARM_UP_RUNS):
        runner.enqueue()
    runner.stream.synchronize()
    times = Times()
    runner.context.profiler = times
    for _ in range(RUNS):
        runner.enqueue()
        runner.stream.synchronize()
    return {name: total / RUNS for name, total in times.total.items()}
