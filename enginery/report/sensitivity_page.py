"""What INT8 costs, layer by layer, for the report: where `enginery sensitivity` has been run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from enginery.errors import DamagedFileError
from enginery.project.engine_name import INT8
from enginery.project.paths import model_folder
from enginery.quantization.kept_ranking import KeptLayer, KeptRanking, current
from enginery.registry.manifest import QuantizeRecord
from enginery.registry.records import read_record
from enginery.report.document import Cell, Html, fold, table

_SHOWN = 20
_WIDTH, _HEIGHT = 160, 12  # pixels of the longest bar


def sensitivity_of(model: str) -> Html:
    """A model's costliest layers; empty where they were not ranked, or not with these ranges."""
    ranking = current(model)
    if not ranking or not ranking.layers:
        return Html()
    precisions = _precisions(model)
    rows = [_row(layer, ranking, precisions) for layer in ranking.layers[:_SHOWN]]
    caption = f"The error of {model}'s outputs with INT8 in one layer alone, the costliest first"
    shown = f"{len(rows)} of {len(ranking.layers)} layers"
    return fold(f"{model}: {shown}", table(caption, rows, numbers=("error",)))


def _row(layer: KeptLayer, ranking: KeptRanking, precisions: Mapping[str, str]) -> dict[str, Cell]:
    width = _WIDTH * layer.cost / (ranking.layers[0].cost or 1)
    return {
        "layer": layer.layer,
        "error": f"{layer.cost:.3%}",
        "beside the costliest": _bar(max(width, 1)),
        "built in": precisions.get(layer.layer, "-"),
    }


def _bar(width: float) -> Html:
    return Html(
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">'
        f'<rect class="bars" width="{width:.0f}" height="{_HEIGHT}"/></svg>'
    )


def _precisions(model: str) -> Mapping[str, str]:
    """In what the newest INT8 graph has each layer; of a shortcut its record says nothing."""
    with suppress(DamagedFileError):
        record = read_record(model_folder(model, INT8) / "graph" / "record.json", QuantizeRecord)
        return {**dict.fromkeys(record.quantized, "INT8"), **dict.fromkeys(record.excluded, "FP16")}
    return {}
