"""What Enginery asks of a source: where a model's graph comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from enginery.sources.export import ExportSettings


@dataclass(frozen=True)
class Suggestion:
    """What a source knows of itself; None: the usual. `size` is (height, width), `preprocess` as
    params.yaml has it. `has_names`: it names its classes.
    """

    task: str | None = None
    size: tuple[int, int] | None = None
    preprocess: Any = None
    architecture: str | None = None
    has_names: bool = True


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

    @property
    def has_architectures(self) -> bool:
        """Whether a file holds weights alone, and params.yaml names the network."""

    @property
    def preprocess(self) -> str | None:
        """The preset by which its models take images; None: Ultralytics' own way."""

    def suggest(self, source: Path, architecture: str | None) -> Suggestion:
        """What params.yaml shall say of a new model, as far as the file tells.

        Raises:
            ModelError: the file is not of this kind.
        """

    def export(self, source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
        """Write the FP32 graph to `out`: source_sha256, task, stride, names, opset, nodes, and what
        else the record shall have.

        Raises:
            ModelError: the source is no model of this task.
        """
