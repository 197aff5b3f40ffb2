"""A graph of the user's own, with external data beside it or without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.sources.interface import Suggestion

if TYPE_CHECKING:
    from enginery.sources.export import ExportSettings


class OnnxFile:
    """See `enginery.sources.interface.Source`."""

    suffix, tools = ".onnx", ("onnx",)
    has_own_sizes, runs_code, has_architectures = True, False, False
    preprocess: str | None = None

    def stride(self, task: str) -> int:
        """The graph says it; the export checks it."""
        return 1

    def data(self, source: Path) -> Mapping[str, str]:
        """The files that hold its weights, as ONNX keeps them above 2 GB."""
        from enginery.graphs.data_files import data_digests

        return data_digests(source)

    def suggest(self, source: Path, architecture: str | None) -> Suggestion:
        """Its task and whether it names its classes, as Ultralytics and others write them into the
        metadata; the size that it has; `tensors`, if it does not take one image.
        """
        from enginery.errors import ModelError
        from enginery.graphs.inspect import image_input, info_of, read_graph

        try:
            model = read_graph(source)
        except ModelError:  # the export says so
            return Suggestion()
        info, metadata = info_of(model), {each.key: each.value for each in model.metadata_props}
        with_four = [each for each in info.inputs if len(each.shape) == 4]
        task = None if len(info.inputs) == len(with_four) == 1 else "tensors"
        size = None
        if info.inputs:
            image = image_input(info)
            shape = next(each.shape for each in info.inputs if each.name == image)[2:]
            if len(shape) == 2 and all(isinstance(side, int) for side in shape):
                size = (int(shape[0]), int(shape[1]))
        return Suggestion(metadata.get("task", task), size, has_names="names" in metadata)

    def export(self, source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
        """Check and clean it."""
        from enginery.sources.onnx_export import export_onnx

        return export_onnx(source, settings, out)


SOURCE = OnnxFile()
