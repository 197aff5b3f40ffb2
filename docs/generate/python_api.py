"""The reference of the Python API: the modules that a project's own code may import."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from docs.generate.markdown import NOTE

# A module, and what it is for. All other modules may change from version to version.
PUBLIC = {
    "enginery.registry.store": "Find a registered engine, and read its plan safely.",
    "enginery.registry.manifest": "What made an engine and how it was checked.",
    "enginery.registry.built": "What a manifest says of the build.",
    "enginery.registry.standing": "How an engine stands today.",
    "enginery.evaluation.engine_report": "What an engine did on its own GPU.",
    "enginery.project.load": "Read params.yaml.",
    "enginery.pipeline.step": "Declare a step of your own.",
    "enginery.project.stage": "What a step runs for.",
    "enginery.report.events": "Say something while a step runs.",
    "enginery.runtimes.interface": "Add a runtime: an entry point of the group "
    "`enginery.runtimes` that names an object like this.",
    "enginery.sources.interface": "Add a kind of model file: an entry point of the group "
    "`enginery.sources` that names an object like this.",
    "enginery.registries.interface": "Add a kind of registry: an entry point of the group "
    "`enginery.registries`.",
    "enginery.errors": "What Enginery raises.",
}
_EXAMPLE = """```python
from enginery.registry.store import check_whole, find

engine = find("rtx-ada/fp16")
check_whole(engine)  # every byte, before anything loads it
print(engine.plan, engine.state, engine.manifest.metrics)
```
"""


def page() -> str:
    """docs/reference/python.md."""
    return "\n".join(_parts()) + NOTE


def public_names(module: ModuleType) -> list[tuple[str, Any]]:
    """The classes and functions that a module defines, in its order, without the private ones."""
    return [
        (name, value)
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def public_members(kind: type) -> list[tuple[str, Any]]:
    """The methods and properties that a class defines, without the private ones."""
    return [
        (name, value)
        for name, value in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    ]


def _parts() -> Iterator[str]:
    yield "# The Python API\n"
    yield (
        "A project's own steps and services may import these modules. Run Python in the "
        "project's folder.\n"
    )
    yield _EXAMPLE
    for name, purpose in PUBLIC.items():
        module = importlib.import_module(name)
        yield f"## {name}\n\n{purpose}\n"
        for public, value in public_names(module):
            yield from _class(public, value) if inspect.isclass(value) else _function(public, value)


def _function(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}\n\n```python\n{name}{_signature(value)}\n```\n\n{_text(value)}\n"


def _class(name: str, kind: type) -> Iterator[str]:
    if issubclass(kind, Exception):
        yield f"### {name}\n\nA kind of `{kind.__base__.__name__}`. {_text(kind)}\n"  # type: ignore[union-attr]
        return
    yield f"### {name}\n\n{_text(kind)}\n"
    fields = [*_fields(kind)]
    members = [_member(*member) for member in public_members(kind)]
    if fields or members:
        yield "\n".join([*fields, *members]) + "\n"


def _fields(kind: type) -> Iterator[str]:
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            yield f"- `{field.name}: {field.type}`"
    for name, field in getattr(kind, "model_fields", {}).items():
        if name in kind.__annotations__:
            yield f"- `{field.alias or name}: {kind.__annotations__[name]}`"


def _member(name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"- `{name}`: {_text(value)}"
    return f"- `{name}{_signature(value)}`: {_text(value)}"


def _signature(value: Any) -> str:
    signature = inspect.signature(value)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    text = str(signature.replace(parameters=parameters)).replace("''", '""').replace("'", "")
    text = re.sub(r"<function (\w+) at \w+>", r"\1", text)
    return re.sub(r"PosixPath\(([^)]*)\)", r'Path("\1")', text)


def _text(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split())
