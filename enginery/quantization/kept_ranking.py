"""The ranking of layers that `enginery sensitivity` keeps beside the INT8 graph."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from enginery.errors import DamagedFileError
from enginery.project.engine_name import INT8
from enginery.project.paths import CACHE, model_folder
from enginery.registry.records import NotNegative, Record, Sha256, read_record
from enginery.system.files import sha256, write_json


class KeptLayer(Record):
    """A layer and the error that INT8 in it alone costs: RMS relative to the outputs."""

    layer: str
    cost: NotNegative


class KeptRanking(Record):
    """The costliest layer first; `key` is a digest of the graph, the ranges and the images."""

    key: str
    cache_sha256: Sha256
    layers: tuple[KeptLayer, ...]


def keep(model: str, ranking: KeptRanking) -> None:
    """Write a ranking down."""
    write_json(_file(model), ranking.to_json())


def kept(model: str) -> KeptRanking | None:
    """The ranking that is kept; None if there is none, or it is not whole."""
    with suppress(DamagedFileError):  # it is made again
        return read_record(_file(model), KeptRanking)
    return None


def current(model: str) -> KeptRanking | None:
    """The same, if the model's ranges are still those that it was made with."""
    ranking, cache = kept(model), model_folder(model, "calibration") / CACHE
    fits = ranking and cache.is_file() and sha256(cache) == ranking.cache_sha256
    return ranking if fits else None


def _file(model: str) -> Path:
    return model_folder(model, INT8) / "sensitivity.json"
