"""Registries: where a team's engines are for all its machines, one module a kind behind
`interface.Registry`.

Another package adds one by an entry point of the group `enginery.registries`: a name, and an object
of the interface `Backend`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from enginery.system.plugins import plugins

if TYPE_CHECKING:
    from enginery.project.registry_settings import RegistrySettings
    from enginery.registries.interface import Backend, Registry

GROUP, DEFAULT = "enginery.registries", "git"


@cache
def names() -> tuple[str, ...]:
    """Every back end that params.yaml may name."""
    return (DEFAULT, *sorted(plugins(GROUP).names))


def open_registry(settings: RegistrySettings, root: Path = Path()) -> Registry:
    """The registry of a project.

    Raises:
        RegistryError: the settings name none.
    """
    return _find(settings.backend).open(settings, root)


def _find(name: str) -> Backend:
    if name == DEFAULT:
        from enginery.registries import git

        return git.BACKEND
    other: Backend = plugins(GROUP)[name].load()
    return other
