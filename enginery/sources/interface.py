"""What Enginery asks of a source: where a model's graph comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from enginery.sources.export import ExportSettings


class Source(Protocol):
    """A kind of model file, told by its suffix.

    `tools` are the packages whose versions shape the graph. `has_own_sizes`: the file has an opset
    and shapes already, so params.yaml chooses none. `runs_code`: reading it may run code.
    """

    @property
    def suffix(self) -> str:
        """Of its files, with the dot."""

    @property
    def tools(self) -> tuple[str, ...]:
        """Packages that shape the graph."""

    @property
    def has_own_sizes(self) -> bool:
        """Whether opset and shapes are the file's."""

    @property
    def runs_code(self) -> bool:
        """Whether reading it may run code, unless that is forbidden."""

    def stride(self, task: str) -> int:
        """What height and width must be multiples of."""

    def data(self, source: Path) -> Mapping[str, str]:
        """The digests of files beside the source that belong to it."""

    def has_names(self, source: Path) -> bool:
        """Whether the source itself names its classes."""

    def export(self, source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
        """Write the FP32 graph to `out`: source_sha256, task, stride, names, opset, nodes, and what
        else the record shall have.

        Raises:
            ModelError: the source is no model of this task.
        """
