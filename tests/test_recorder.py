"""The recorders of `tests/recorder` against the real bindings: they have nothing that those lack, and
their flags are the bindings' numbers.
"""

from __future__ import annotations

import json
import subprocess
from enum import EnumMeta
from pathlib import Path

import pytest

from tests import child
from tests.recorder import building, engines, flags
from tests.test_bindings import toolchain

KINDS = {
    "StrongBuilderFlag": "BuilderFlag",
    "StrongNetworkDefinitionCreationFlag": "NetworkDefinitionCreationFlag",
}
# What only the tests read.
OWN = {"OldParserError", "Bound"}

LOOK = """
import json, sys, tensorrt as trt
found = {}
for name, members in json.loads(sys.argv[1]).items():
    kind = getattr(trt, name)
    found[name] = {member: getattr(kind, member, None) is not None for member in members}
    if hasattr(kind, "__members__"):
        found[name] = {member: int(kind.__members__[member]) for member in members if member in kind.__members__}
print(json.dumps(found))
"""


def surface() -> dict[str, dict[str, int | bool]]:
    """Each class of the recorder with its members; of flags, their numbers."""
    found: dict[str, dict[str, int | bool]] = {}
    own = [
        (name, kind)
        for module in (flags, building, engines)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and name not in OWN
    ]
    for name, kind in own:
        if isinstance(kind, EnumMeta):
            members = {member.name: int(member) for member in kind}
        elif issubclass(kind, building.Bound):
            members = {member: True for member in vars(kind) if not member.startswith("_")}
        else:
            continue
        found.setdefault(KINDS.get(name, name), {}).update(members)
    return found


def test_the_recorder_is_what_the_real_bindings_are(tmp_path: Path) -> None:
    python = toolchain(tmp_path, "10.16.1.11")
    expected = surface()
    assert len(expected) >= 25
    asked = json.dumps({name: list(members) for name, members in expected.items()})
    result = subprocess.run(
        [str(python), "-c", LOOK, asked], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout.splitlines()[-1]) == expected


def test_the_recorder_takes_nothing_else() -> None:
    config = child.tensorrt().Builder(None).create_builder_config()
    with pytest.raises(AttributeError):
        config.int8_calibrater = None
    with pytest.raises(AttributeError):
        building.ILayer("a").percision = flags.DataType.HALF
