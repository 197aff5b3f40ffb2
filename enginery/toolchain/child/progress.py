"""How far a build is, from the versions of TensorRT that tell."""

import time


def make_monitor(trt, out):
    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.steps = {}
            self.said = 0.0

        def phase_start(self, phase_name, parent_phase, num_steps):
            self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name):
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name, step):
            now = time.monotonic()
            if now - self.said > 0.2:
                self.said = now
                out.send(
                    "progress", phase=phase_name, step=step, steps=self.steps.get(phase_name, 0)
                )
            return True

    return Monitor()
