"""The reference of an engine's manifest, from its types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docs.generate.manifest_keys import KEYS
from docs.generate.markdown import NOTE, table, type_words
from enginery.registry.manifest import SCHEMA, Manifest


def page() -> str:
    """docs/reference/manifest.md."""
    return "\n".join(_parts(Manifest.model_json_schema(by_alias=True))) + NOTE


def definitions(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every type of the manifest by its name for people, the manifest first."""
    return {"Manifest": schema, **{_name(name): body for name, body in schema["$defs"].items()}}


def _parts(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "# The manifest\n"
    yield (
        "`manifest.json` lies beside each `model.plan`. It holds all that made the engine and how "
        "it was checked. It is sorted JSON without times and without paths of a machine: the same "
        f"inputs give the same bytes. This is schema {SCHEMA}. A key that is not listed here may "
        "be there, too: it is kept.\n"
    )
    for name, body in definitions(schema).items():
        text = " ".join(body.get("description", "").split())
        yield f"## {name}\n\n{text}\n"
        required = body.get("required", ())
        rows = [
            (f"`{key}`", _type(key, value), "yes" if key in required else "no", KEYS[name][key])
            for key, value in body.get("properties", {}).items()
        ]
        yield table(("key", "type", "always there", "what it says"), rows)


def _type(key: str, value: Mapping[str, Any]) -> str:
    if key == "parameters":  # of the generic type
        return "each step's own"
    return type_words(_renamed(value))


def _renamed(value: Any) -> Any:
    """A schema whose references have names for people."""
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: f"#/$defs/{_name(inner.rpartition('/')[2])}" if key == "$ref" else _renamed(inner)
        for key, inner in value.items()
    }


def _name(name: str) -> str:
    """A generic type's own name: Recipe[Source] is Recipe_Source_ in a schema."""
    return name.partition("_")[0]
