"""The child program's modules, a request as the client writes it, and what its refusals look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.child import load_child

base, probing, timing, calibrating, devices, engines = map(
    load_child, ("base", "probing", "timing", "calibrating", "devices", "engines")
)
building, inspecting, progress, refitting, running, main_ = map(
    load_child, ("building", "inspecting", "progress", "refitting", "running", "__main__")
)


def request(**changed: Any) -> dict[str, Any]:
    """A build as the client asks for it, all options at their defaults."""
    found: dict[str, Any] = {
        "runtime": "tensorrt",
        "onnx": "g.onnx",
        "plan": "g.plan",
        "name": "g",
        "gpu": None,
        "compute_capability": None,
        "profiles": [],
        "workspace_mib": None,
        "optimization_level": None,
        "tactic_sources": None,
        "strongly_typed": False,
        "tf32": False,
        "sparsity": False,
        "version_compatible": False,
        "hardware_compatible": False,
        "refittable": False,
        "dla_core": None,
        "timing_caches": [],
        "timing_cache": None,
        "precision": "fp32",
        "cache": None,
        "fp16_layers": [],
        "native_images": None,
        "channels_last": None,
        "plugins": False,
    }
    assert changed.keys() <= found.keys()
    return {**found, **changed}


def refused(kind: str, message: str) -> Any:
    return _Refused(kind, message)


class _Refused:
    """Expects a refusal of this kind with exactly these words."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        assert isinstance(error, base.RefusedError), error
        assert (error.kind, str(error)) == (self.kind, self.message)
        return True


TACTIC = "Skipping tactic 0x1 due to insufficient memory on requested size"


def caches(folder: Path, *contents: bytes) -> list[str]:
    for number, content in enumerate(contents):
        (folder / f"{number}.timing").write_bytes(content)
    return [str(folder / f"{number}.timing") for number in range(len(contents))]


def on_gpu(**changed: Any) -> dict[str, Any]:
    return {
        "runtime": "tensorrt",
        "plan": "p",
        "data": b"data",
        "host_code": False,
        "dla_core": None,
        "plugins": False,
        **changed,
    }
