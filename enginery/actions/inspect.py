"""inspect-engine: an engine's layers, as TensorRT's inspector tells, and the time each takes on the
engine's own GPU.
"""

from __future__ import annotations

from typing import Any

from enginery.actions.engine_session import forward_progress, on_gpu, plan_of
from enginery.project.params import Spec
from enginery.registry.store import Engine
from enginery.toolchain.client import inspect
from enginery.toolchain.requests import InspectRequest


def inspect_engine(spec: Spec, engine: Engine) -> dict[str, Any]:
    """The inspector's `layers`, mean `milliseconds` of each at opt of the first profile,
    `device_memory` in bytes, `skipped_tactics`.

    Raises:
        EngineryError: it cannot be run here.
    """
    with on_gpu(spec, engine) as choice:
        request = InspectRequest(**plan_of(engine, choice), shape=engine.built.profile.opt)
        found = inspect(
            choice.python, request, forward_progress, spec.targets[engine.target].time_limit_s
        )
    return {**found, "skipped_tactics": engine.manifest.steps.build.skipped_tactics}
