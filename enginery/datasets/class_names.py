"""The names of a model's classes, from a file that a team has."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from enginery.errors import DataError

SUFFIXES = (".txt", ".yaml", ".yml", ".json")
_CURE = "Give the names as a list, or as a mapping from 0, 1, 2 ... to them"


def read_names(path: Path) -> tuple[str, ...]:
    """The names of classes 0, 1, 2 ...: a line each, or of a YAML or JSON file a list, a mapping,
    or its `names`.

    Raises:
        DataError: there is no such file, or it says something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix not in SUFFIXES[1:]:
            return parse_names([line for line in text.splitlines() if line.strip()], str(path))
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}", "Correct the path of `names` in params.yaml"
        ) from None
    except (ValueError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read: {text}", _CURE) from None
    inner = content.get("names", content) if isinstance(content, dict) else content
    return parse_names(inner, str(path))


def parse_names(value: object, where: str) -> tuple[str, ...]:
    """Names from a list, or from a mapping of 0, 1, 2 ... to them.

    Raises:
        DataError: it is neither, or a number is left out.
    """
    if isinstance(value, dict):
        numbered = {str(key): name for key, name in value.items()}
        missing = [str(key) for key in range(len(value)) if str(key) not in numbered]
        if missing:
            raise DataError(f"{where}: class {missing[0]} has no name", _CURE)
        value = [numbered[str(key)] for key in range(len(value))]
    if not isinstance(value, list) or not value:
        raise DataError(f"{where} is no list of class names", _CURE)
    return tuple(str(name).strip() for name in value)
