"""Changes to a YAML text that keep its comments and its layout: each edits only the lines that it
must, and the result is parsed to prove that it says what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from enginery.errors import EngineryError

_FIRST_INDENT = 2


class LayoutError(EngineryError):
    """A YAML text is laid out in a way that this module cannot edit."""


class YamlText:
    """A YAML mapping as text; keys are given as a path of mapping keys."""

    def __init__(self, text: str) -> None:
        self.text = text if text.endswith("\n") else f"{text}\n"

    def value(self) -> Any:
        """What the text says."""
        return yaml.safe_load(self.text)

    def set(self, path: Sequence[str], value: Any) -> None:
        """Replace the value of a key by one in its line. The line's comment stays, a block goes."""
        key, node = self._pair(path)
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            end = self._line_end(_end(node))
            self._splice(key.end_mark.index, end, f": {inline(value)}\n")
        else:
            self._splice(node.start_mark.index, _end(node), inline(value))

    def rename(self, path: Sequence[str], name: str) -> None:
        """Give a key another name."""
        key = self._pair(path)[0]
        self._splice(key.start_mark.index, key.end_mark.index, name)

    def remove(self, path: Sequence[str]) -> None:
        """Take out a key with its value, the comments right above it and the empty line below."""
        key, node = self._pair(path)
        if self._mapping(path[:-1]).flow_style:
            raise LayoutError(f"{'.'.join(path)} is in a mapping of one line")
        start = self._above(self._line_start(key.start_mark.index), key.start_mark.column)
        end = self._line_end(_end(node))
        if self.text[end : end + 1] == "\n":
            end += 1
        self._splice(start, end, "")

    def insert(self, path: Sequence[str], lines: str) -> None:
        """Add lines at the end of the mapping that a key holds; they are indented as it is."""
        mapping = self._mapping(path)
        if not mapping.value:
            indent = self._pair(path)[0].start_mark.column + _FIRST_INDENT
            rest = self.text[_end(mapping) : self._line_end(_end(mapping))].rstrip("\n")
            body = f"{rest}\n{_indented(lines, indent)}"
            start = len(self.text[: mapping.start_mark.index].rstrip(" "))
            self._splice(start, self._line_end(_end(mapping)), body)
        elif mapping.flow_style:
            raise LayoutError(f"{'.'.join(path)} is a mapping of one line")
        else:
            end = self._line_end(_end(mapping))
            self._splice(end, end, _indented(lines, mapping.value[0][0].start_mark.column))

    def append(self, path: Sequence[str], item: str) -> None:
        """Add an item to a sequence."""
        node = self._pair(path)[1]
        if not isinstance(node, yaml.SequenceNode):
            raise LayoutError(f"{'.'.join(path)} is no list")
        if node.flow_style:
            joint = ", " if node.value else ""
            end = _end(node.value[-1]) if node.value else _end(node) - 1
            self._splice(end, end, f"{joint}{item}")
        else:
            end = self._line_end(_end(node))
            self._splice(end, end, f"{' ' * node.start_mark.column}- {item}\n")

    def _pair(self, path: Sequence[str]) -> tuple[yaml.Node, yaml.Node]:
        for key, node in self._mapping(path[:-1]).value:
            if key.value == path[-1]:
                return key, node
        raise LayoutError(f"{'.'.join(path)} is missing")

    def _mapping(self, path: Sequence[str]) -> yaml.MappingNode:
        node = self._pair(path)[1] if path else yaml.compose(self.text, yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise LayoutError(f"{'.'.join(path) or 'the file'} is no mapping")
        return node

    def _splice(self, start: int, end: int, new: str) -> None:
        self.text = self.text[:start] + new + self.text[end:]

    def _line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        """After the line that holds `index`; a trailing comment belongs to the line."""
        return self.text.find("\n", index) + 1

    def _above(self, start: int, column: int) -> int:
        """Where the comments begin that stand right above a line at the same indentation."""
        while start:
            before = self._line_start(start - 1)
            if not self.text[before:start].startswith(f"{' ' * column}#"):
                break
            start = before
        return start


def inline(value: Any) -> str:
    """A value as YAML in one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


def block(value: Mapping[str, Any], indent: int = 0) -> str:
    """A mapping as YAML: mappings in it as blocks, all else in one line each."""
    lines = []
    for key, inner in value.items():
        name = " " * indent + inline(key)
        if isinstance(inner, Mapping) and inner:
            lines.append(f"{name}:\n{block(inner, indent + _FIRST_INDENT)}")
        else:
            lines.append(f"{name}: {inline(inner)}\n")
    return "".join(lines)


def _end(node: yaml.Node) -> int:
    """Where a node's own text ends: a block's mark lies behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    index: int = node.end_mark.index
    return index


def _indented(lines: str, indent: int) -> str:
    return "".join(f"{' ' * indent}{line}\n" for line in lines.splitlines())
