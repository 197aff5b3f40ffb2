"""inspect: an engine's layers and the time that each takes, measured on the engine's own GPU."""

from __future__ import annotations

from enginery.actions.engine_session import open_engine
from enginery.project.params import Spec
from enginery.registry.store import Engine
from enginery.toolchain.requests import Inspection


def inspect_engine(spec: Spec, engine: Engine) -> Inspection:
    """Take an engine apart on its GPU.

    Raises:
        EngineryError: it cannot be run here.
    """
    with open_engine(spec, engine) as session:
        return session.inspect()
