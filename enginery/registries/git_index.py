"""MODEL/index.json on the branch `engines`: every version of a model's engines, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

from pydantic import Field, ValidationError

from enginery.errors import RegistryError
from enginery.registry.published import PublishedEngine
from enginery.registry.records import Count, Record, parse

INDEX = "index.json"
SCHEMA = 1


class _Schema(Record):
    schema_: Count = Field(alias="schema")


class _Index(Record):
    schema_: Literal[1] = Field(alias="schema")
    engines: tuple[PublishedEngine, ...]


def dump_index(engines: Iterable[PublishedEngine]) -> bytes:
    """The file; a line for each engine, so that git keeps little of what does not change."""
    ordered = sorted(engines, key=lambda engine: (engine.name, engine.version))
    lines = ",\n".join(json.dumps(engine.to_json(), sort_keys=True) for engine in ordered)
    return f'{{"schema": {SCHEMA}, "engines": [\n{lines}\n]}}\n'.encode()


def parse_index(content: bytes, where: str) -> tuple[PublishedEngine, ...]:
    """The engines of a file.

    Raises:
        RegistryError: it is not whole, or a newer Enginery wrote it.
    """
    with suppress(ValidationError):  # the usual case, for which a second reading is too slow
        return _Index.model_validate_json(content).engines
    try:
        if parse(content, _Schema).schema_ > SCHEMA:
            what = f"the registry's {where} was written by a newer Enginery"
            raise RegistryError(what, "Upgrade Enginery on this machine: pip install --upgrade")
        return parse(content, _Index).engines
    except ValueError as error:
        what = f"the registry's {where} {error}"
        raise RegistryError(what, "Take an earlier commit of the branch `engines` again") from None
