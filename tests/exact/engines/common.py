"""A GPU and the toolchain that sees it; an engine with another manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enginery.gpu.inventory import Gpu
from enginery.registry.store import Engine, engine_in
from enginery.toolchain.requests import ToolchainInfo
from enginery.toolchain.selection import Choice
from tests.registered import change_manifest

CARD = {"gpu": "Card", "uuid": "GPU-1", "compute_capability": "9.0"}
GPU = Gpu(0, "GPU-1", "Card", "9.0", 81920, "580", "13.0", 2000, 9000)
PYTHON = Path("/env/python")


def info(**changed: Any) -> ToolchainInfo:
    fields = {
        "runtime": "tensorrt",
        "version": "10.16.1.11",
        "python": "3.11",
        "platform": "linux_x86_64",
        "features": (),
        "compute_capabilities": ("9.0",),
        "gpus": (CARD,),
        **changed,
    }
    return ToolchainInfo(**fields)


def choice(**changed: Any) -> Choice:
    return Choice("mine", PYTHON, info(**changed), GPU, "GPU-1")


def changed(engine: Engine, **changes: Any) -> Engine:
    change_manifest(engine.folder, **changes)
    found = engine_in(engine.folder)
    assert found
    return found


OTHER = {"gpu": "Old", "uuid": "GPU-2", "compute_capability": "8.6"}


def written() -> set[str]:
    """The targets whose builds have recipes."""
    paths = Path("artifacts/recipes/build").glob("*.json")
    names = ("rtx-ampere", "rtx-ada", "rtx-blackwell")
    return {name for path in paths for name in names if f"-{name}-" in path.name}
