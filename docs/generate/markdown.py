"""Tables of Markdown, and types of a JSON Schema in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NOTE = "\n<!-- Made from the code by `make docs`: change it there. -->\n"
_DIGESTS = ("^[0-9a-f]{64}$", "^[0-9a-fA-F]{64}$")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell is escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def type_words(schema: Mapping[str, Any]) -> str:
    """A value's type and limits, as in `integer, 1 to 5`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "allOf"):
        if key in schema:
            kinds = [kind for kind in schema[key] if kind.get("type") != "null"]
            return " or ".join(dict.fromkeys(map(type_words, kinds)))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if inner := _inner(schema):
        return inner
    if schema.get("pattern") in _DIGESTS:
        return "SHA-256"
    return f"{schema.get('type', 'any')}{_limits(schema)}"


def default_words(schema: Mapping[str, Any]) -> str:
    """A default as YAML would have it; empty where there is none."""
    value = schema.get("default")
    return "" if value is None or value in ([], {}) else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _inner(schema: Mapping[str, Any]) -> str:
    """Of a mapping or a list, what it holds."""
    patterns = list(schema.get("patternProperties", {}).values())
    values = patterns or [schema.get("additionalProperties")]
    if schema.get("type") == "object" and isinstance(values[0], Mapping):
        return f"name: {type_words(values[0])}"
    if isinstance(schema.get("items"), Mapping):
        count = schema.get("maxItems")
        what = type_words(schema["items"])
        return f"[min, opt, max] of {what}" if count == 3 else f"list of {what}"
    return ""


def _limits(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f", above {above:g}" + ("" if high is None else f", up to {high:g}")
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    return f", {low:g} or more" if low is not None else ""
