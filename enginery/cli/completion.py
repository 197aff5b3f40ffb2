"""What the shell may complete: names of engines, models, targets and precisions of this folder.

A shell waits for it at each press of a key, so nothing is checked and little is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_REGISTRY, _PARAMETERS = Path("artifacts/engines"), Path("params.yaml")


def complete_engine(incomplete: str) -> list[str]:
    """Registered engines."""
    folders = _REGISTRY.glob("*/*/*")
    names = ("/".join(folder.relative_to(_REGISTRY).parts) for folder in folders)
    return _beginning(incomplete, (name for name in names if "/." not in f"/{name}"))


def complete_model(incomplete: str) -> list[str]:
    """Models of params.yaml."""
    return _beginning(incomplete, _names("models"))


def complete_target(incomplete: str) -> list[str]:
    """Targets of params.yaml."""
    return _beginning(incomplete, _names("targets"))


def complete_precision(incomplete: str) -> list[str]:
    """All precisions."""
    return _beginning(incomplete, ("fp32", "fp16", "int8"))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _names(section: str) -> list[str]:
    import yaml

    with suppress(OSError, ValueError, yaml.YAMLError, AttributeError, TypeError):
        content = yaml.safe_load(_PARAMETERS.read_text(encoding="utf-8"))
        return [str(name) for name in content.get(section, {})]
    return []
