"""A registered engine on this machine's GPU: is it for it, whose turn is it, and what is the child program told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from enginery.errors import EngineError, EngineryError, IntegrityError
from enginery.gpu import reserved
from enginery.registry import Engine, damage
from enginery.report.events import emit, log
from enginery.spec import Spec
from enginery.toolchain.choice import Choice, Toolchains

MINIMUM_MIB = 512  # GPU memory without which no engine is loaded
OLDEST_COMPATIBLE = 8.0  # hardware-compatible plans run from this compute capability (Ampere) on


@contextmanager
def on_gpu(spec: Spec, engine: Engine) -> Iterator[Choice]:
    """The toolchain and GPU of an engine, which is whole and for this GPU, and the GPU to oneself.

    Raises:
        EngineryError: it cannot be run here.
    """
    if engine.target not in spec.targets:
        raise EngineryError(f"{engine.name}: its target is not in params.yaml", "Add it again, or remove the engine")
    harm = damage(engine)
    if harm:
        raise IntegrityError(f"{harm[0]}; it was not loaded", "Run `enginery build`: it restores the plan")
    choice = Toolchains(spec).choose(engine.target)
    _check_gpu(engine, choice)
    with reserved(choice.gpu, MINIMUM_MIB, log):
        yield choice


def plan_of(engine: Engine, choice: Choice) -> dict[str, Any]:
    """The fields of a PlanRequest."""
    return {
        "runtime": engine.manifest["runtime"], "plan": engine.plan, "plan_sha256": engine.manifest["plan"]["sha256"], "gpu": choice.visible,
        "host_code": bool(engine.built.get("version_compatible")),
    }


def important(event: Mapping[str, Any]) -> None:
    """Show progress and errors; what TensorRT remarks while it loads an engine is for nobody."""
    if event.get("severity") not in ("debug", "warning"):
        emit(event)


def _check_gpu(engine: Engine, choice: Choice) -> None:
    wanted, info = engine.manifest["compute_capability"], choice.info
    here = [gpu["compute_capability"] for gpu in info.gpus]
    compatible = engine.built.get("hardware_compatible") and any(float(found) >= OLDEST_COMPATIBLE for found in here)
    if wanted in here or compatible:
        return
    shown = ", ".join(f"{gpu['gpu']} ({gpu['compute_capability']})" for gpu in info.gpus) or "no GPU"
    what = f"{engine.name} is for compute capability {wanted}, and this machine shows its toolchain {shown}"
    raise EngineError(what, f"Use a machine that has one{f' ({info.no_gpu})' if info.no_gpu else ''}")
