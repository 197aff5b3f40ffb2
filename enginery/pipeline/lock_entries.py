"""The entry of one stage in dvc.lock, read and exchanged without the rest of the file.

A run asks for an entry after each stage: reading the whole file each time would grow with the
square of the stages. In the form in which DVC writes it, an entry is the lines below its name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from enginery.pipeline import yaml12

_HEAD = b"schema: '2.0'\nstages:\n"
_ENTRY = re.compile(rb"^  (?=\S)", re.MULTILINE)
_NAME = re.compile(rb"  ([\w@./-]+):\n")


def read_entry(content: bytes, name: str) -> Any:
    """A stage's entry in a lock file; None if it has none.

    Raises:
        ValueError: it is no lock file.
    """
    parts = _parts(content)
    if parts is None:
        value = yaml12.load(content) or {}
        return (value.get("stages") or {}).get(name)
    part = parts.get(name)
    return next(iter(yaml12.load(part).values())) if part else None


def with_entries(content: bytes, entries: Mapping[str, Any]) -> bytes:
    """A lock file in which some stages have new entries; nothing of the others changes.

    Raises:
        ValueError: it is no lock file.
    """
    parts = _parts(content) if content else {}
    written = {name: _written(name, entry) for name, entry in entries.items()}
    if parts is not None and None not in written.values():
        parts.update({name: part for name, part in written.items() if part})
        return _HEAD + b"".join(parts.values())
    value = yaml12.load(content) or {"schema": "2.0"}
    value.setdefault("stages", {}).update(entries)
    return _dumped(value)


def _parts(content: bytes) -> dict[str, bytes] | None:
    """The lines of each entry, by its name; None if the file is not in DVC's form."""
    if not content.startswith(_HEAD) or not content.endswith(b"\n"):
        return None
    starts = [match.start() for match in _ENTRY.finditer(content, len(_HEAD))]
    if not starts or starts[0] != len(_HEAD) or re.search(rb"^\S", content[len(_HEAD) :], re.M):
        return None
    parts = {}
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        name = _NAME.match(content, start)
        if name is None:
            return None
        parts[name[1].decode()] = content[start:end]
    return parts


def _written(name: str, entry: Any) -> bytes | None:
    """An entry's lines; None if its name is not written as it is."""
    lines = _dumped({"stages": {name: entry}}).partition(b"\n")[2]
    match = _NAME.match(lines)
    return lines if match and match[1] == name.encode() else None


def _dumped(value: Any) -> bytes:
    text = io.StringIO()
    yaml12.dump(value, text)
    return text.getvalue().encode()
