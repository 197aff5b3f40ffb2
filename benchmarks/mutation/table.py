"""Writes the table of mutants: killed, survived, and why those that survive change nothing that a
test could see.

    python -m benchmarks.mutation.table FOLDER

FOLDER is where `benchmarks.mutation.run` has run. Why a survivor is equivalent stands in
survivors.yaml.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.mutation.faults import read_faults
from benchmarks.mutation.mutants import Mutant, read_mutants

OUT = Path(__file__).resolve().parents[1] / "results" / "mutation.md"
SURVIVORS = Path(__file__).with_name("survivors.yaml")
INTRODUCTION = Path(__file__).with_name("introduction.md")


@dataclass(frozen=True)
class Reason:
    """Why mutants whose path and change match these patterns are equivalent."""

    path: str
    change: str
    why: str

    def explains(self, mutant: Mutant) -> bool:
        """Whether a mutant is one of them."""
        in_path = re.search(self.path, f"{mutant.path} {mutant.function}")
        return bool(in_path and re.search(self.change, mutant.change, re.DOTALL))


def read_reasons() -> list[Reason]:
    """All of survivors.yaml."""
    found = yaml.safe_load(SURVIVORS.read_text())
    return [Reason(each.get("path", ""), each["change"], each["why"]) for each in found]


def main() -> None:
    """Write benchmarks/results/mutation.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    mutants = list(read_mutants(parser.parse_args().folder))
    reasons = read_reasons()
    text = [
        INTRODUCTION.read_text().rstrip(),
        "",
        *_rows(mutants, reasons),
        "",
        *_survivors(mutants, reasons),
    ]
    faults = [f"| {each.fault} | `{each.test.replace('tests/', '')}` |" for each in read_faults()]
    head = ["", "## Faults made by hand", "", "| fault | the test that fails of it |", "|---|---|"]
    OUT.write_text("\n".join([*text, *head, *faults, ""]))


def _rows(mutants: Sequence[Mutant], reasons: Sequence[Reason]) -> Iterator[str]:
    yield (
        "| module | made | tested | killed | stopped | survived | equivalent | killed of the "
        "others |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for path in sorted({mutant.path for mutant in mutants if mutant.tested}):
        yield _row(f"`{path}`", [mutant for mutant in mutants if mutant.path == path], reasons)
    yield _row("**all**", mutants, reasons)


def _row(name: str, mutants: Sequence[Mutant], reasons: Sequence[Reason]) -> str:
    tested = [mutant for mutant in mutants if mutant.tested]
    stopped = sum(mutant.stopped for mutant in tested)
    alive = [mutant for mutant in tested if not mutant.killed]
    killed = len(tested) - len(alive)
    equivalent = sum(any(reason.explains(mutant) for reason in reasons) for mutant in alive)
    share = killed / max(len(tested) - equivalent, 1)
    counts = (len(mutants), len(tested), killed, stopped, len(alive), equivalent)
    return f"| {name} | {' | '.join(map(str, counts))} | {share:.1%} |"


def _survivors(mutants: Sequence[Mutant], reasons: Sequence[Reason]) -> Iterator[str]:
    alive = [mutant for mutant in mutants if mutant.tested and not mutant.killed]
    explained = Counter(
        next((reason.why for reason in reasons if reason.explains(mutant)), "") for mutant in alive
    )
    yield from ("## Equivalent", "", "| why no test can tell | mutants |", "|---|---:|")
    for why, count in explained.most_common():
        if why:
            yield f"| {why} | {count} |"
    others = [mutant for mutant in alive if not any(reason.explains(mutant) for reason in reasons)]
    yield from ("", "## Survived, and not explained", "")
    for mutant in others:
        change = " becomes ".join(
            f"`{' '.join(lines)}`" for lines in (mutant.removed, mutant.added)
        )
        yield f"- `{mutant.path}` {mutant.function}: {change}"


if __name__ == "__main__":
    main()
