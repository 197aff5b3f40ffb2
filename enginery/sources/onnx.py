"""A graph of the user's own, with external data beside it or without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enginery.sources.export import ExportSettings


class OnnxFile:
    """See `enginery.sources.interface.Source`."""

    suffix, tools = ".onnx", ("onnx",)
    has_own_sizes, runs_code = True, False

    def stride(self, task: str) -> int:
        """The graph says it; the export checks it."""
        return 1

    def data(self, source: Path) -> Mapping[str, str]:
        """The files that hold its weights, as ONNX keeps them above 2 GB."""
        from enginery.graphs.data_files import data_digests

        return data_digests(source)

    def has_names(self, source: Path) -> bool:
        """As Ultralytics and others write them into the metadata."""
        import onnx

        try:
            model = onnx.load(source, load_external_data=False)
        except Exception:  # its kinds share no base; the export says what is wrong
            return True
        return any(entry.key == "names" for entry in model.metadata_props)

    def export(self, source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
        """Check and clean it."""
        from enginery.sources.export import export

        return export(source, settings, out)


SOURCE = OnnxFile()
