"""YAML as DVC reads and writes it, several times as fast: its version is 1.2, in which `yes` is a
text and 1e3 is a number, and libyaml's own is 1.1.
"""

from __future__ import annotations

import io
import math
from functools import cache
from typing import IO, Any

import yaml
from yaml.emitter import Emitter

_VERSION = (1, 2)


def load(content: bytes) -> Any:
    """The value in a YAML file.

    Raises:
        ValueError: it is none.
    """
    try:
        return yaml.load(content, _loader())
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def dump(value: Any, file: IO[str]) -> None:
    """Write a value as DVC would."""
    yaml.dump(value, file, Dumper=_dumper(), sort_keys=False, allow_unicode=True)


@cache
def _loader() -> Any:
    return _as_version_12(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def _dumper() -> Any:
    dumper = _as_version_12(getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    dumper.add_representer(str, _text)
    dumper.add_representer(float, _number)
    dumper.add_representer(type(None), _nothing)
    return dumper


def _nothing(dumper: Any, value: None) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


def _number(dumper: Any, value: float) -> Any:
    if not math.isfinite(value):
        return dumper.represent_float(value)
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value).lower())


def _text(dumper: Any, text: str) -> Any:
    # DVC's library puts no text in single quotes that has some, or a line's end.
    quoted = "'" in text and not _analyst().analyze_scalar(text).allow_block_plain
    style = '"' if quoted or "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


@cache
def _analyst() -> Any:
    return Emitter(io.StringIO())


def _as_version_12(base: Any) -> Any:
    """A class of PyYAML's that tells numbers and booleans from texts as DVC's library does."""
    from ruamel.yaml.resolver import implicit_resolvers

    known: dict[str, list[tuple[str, Any]]] = {}
    for versions, tag, pattern, starts in implicit_resolvers:
        for start in starts if _VERSION in versions else ():
            known.setdefault(start, []).append((tag, pattern))
    return type(base.__name__, (base,), {"yaml_implicit_resolvers": known})
