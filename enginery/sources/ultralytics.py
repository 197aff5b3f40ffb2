"""Ultralytics' weights: pickles, which load without running code unless they are trusted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.sources.interface import Suggestion

if TYPE_CHECKING:
    from enginery.sources.export import ExportSettings

_STRIDE = 32


class UltralyticsWeights:
    """See `enginery.sources.interface.Source`."""

    suffix, tools = ".pt", ("ultralytics", "torch", "onnx")
    has_own_sizes, runs_code, has_architectures = False, True, False
    preprocess: str | None = None

    def stride(self, task: str) -> int:
        """A classifier takes any size."""
        return 1 if task == "classify" else _STRIDE

    def data(self, source: Path) -> Mapping[str, str]:
        """Weights are one file."""
        return {}

    def suggest(self, source: Path, architecture: str | None) -> Suggestion:
        """Checkpoints name their classes; the task is guessed from the file's name."""
        return Suggestion()

    def export(self, source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
        """Ultralytics' own exporter, without what changes from run to run."""
        from enginery.sources.ultralytics_export import export_weights

        return export_weights(source, settings, out)


SOURCE = UltralyticsWeights()
