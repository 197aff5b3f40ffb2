"""What mutmut made and found: every mutant with its change and its result, read from the files that
it keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GENERATED = " # type: ignore # mutmut generated"
# mutmut's exit codes: pytest's own for a failed test or an error in one, and those of a process
# that was stopped.
_FAILED, _STOPPED = (1, 3), (24, 36, 152, -9, -24)


@dataclass(frozen=True)
class Mutant:
    """One fault: where, what it changes, and how its tests ended (None: not tested)."""

    key: str
    path: str
    function: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    exit_code: int | None

    @property
    def tested(self) -> bool:
        """Whether tests ran against it, or none could."""
        return self.exit_code is not None

    @property
    def stopped(self) -> bool:
        """Whether its tests would have run for ever."""
        return self.exit_code in _STOPPED

    @property
    def killed(self) -> bool:
        """Whether a test noticed it."""
        return self.exit_code in _FAILED or self.stopped

    @property
    def change(self) -> str:
        """The lines that differ, as a diff shows them."""
        before, after = (f"- {line}" for line in self.removed), (f"+ {line}" for line in self.added)
        return "\n".join([*before, *after])


def read_mutants(folder: Path) -> Iterator[Mutant]:
    """Every mutant of a copy of the checkout in which mutmut has run."""
    mutants = folder / "mutants"
    for meta in sorted(mutants.rglob("*.py.meta")):
        source = meta.with_name(meta.name.removesuffix(".meta"))
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        spans = json.loads(source.with_name(f"{source.name}.spans").read_text())["spans"]
        lines = source.read_text().split("\n")
        for key, code in codes.items():
            name = key.rpartition(".")[2]
            plain = name.partition("__mutmut_")[0]
            original = _body(lines, spans[f"{plain}__mutmut_orig"])
            change = _difference(original, _body(lines, spans[name]))
            function = plain.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
            yield Mutant(key, str(source.relative_to(mutants)), function, *change, code)


def _body(lines: list[str], span: list[int]) -> list[str]:
    """A function's lines without its name, which is another for each mutant."""
    start, end = span
    body = [line.strip().replace(_GENERATED, "") for line in lines[start - 1 : end]]
    name = next(number for number, line in enumerate(body) if line.startswith("def "))
    return body[name + 1 :]


def _difference(before: list[str], after: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    start = _equal(before, after)
    end = _equal(before[start:][::-1], after[start:][::-1])
    return tuple(before[start : len(before) - end]), tuple(after[start : len(after) - end])


def _equal(first: list[str], second: list[str]) -> int:
    """How many lines are the same from the beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(first), len(second)))
