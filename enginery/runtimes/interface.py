"""What Enginery asks of a runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from enginery.project.target import Target
    from enginery.toolchain.requests import ToolchainInfo
    from enginery.toolchain.selection import Choice


class Runtime(Protocol):
    """A kind of engine: what it builds for, what a target may ask of it, how its plans are checked.

    `name` is the name in params.yaml, and the Python module that a toolchain's interpreter imports.
    `on_own_gpu`: its engines are built on the very GPU that they are for.
    """

    @property
    def name(self) -> str:
        """The name in params.yaml."""

    @property
    def title(self) -> str:
        """The name for people."""

    @property
    def on_own_gpu(self) -> bool:
        """Whether it needs a GPU to build."""

    def mistakes(self, name: str, target: Target, info: ToolchainInfo) -> Iterator[str]:
        """What a target asks of a toolchain in vain: the key, the feature, the cure."""

    def builds_for(self, name: str, target: Target, choice: Choice) -> Mapping[str, Any]:
        """What a target's engines depend on beside runtime, version and platform: at least
        `compute_capability`.

        Raises:
            ExcludedTargetError: another machine builds for this target.
            ToolchainError: the toolchain cannot.
        """

    def check_plan(self, path: Path, digest: str, compute_capability: str | None) -> None:
        """Check a plan's bytes without loading it.

        Raises:
            IntegrityError: it is not the plan that was built.
        """

    def install_cure(self, machine: str) -> str:
        """What to do where a toolchain has it not, on a machine of this architecture."""
