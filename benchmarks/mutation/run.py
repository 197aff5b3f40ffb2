"""Runs mutmut over a copy of the checkout and writes which faults the tests let pass.

    python -m benchmarks.mutation.run FOLDER [--only PATTERN] [--table FILE]

It needs an environment with the project and mutmut==3.8.1. FOLDER gets the copy; a second run there goes on where the first
one stopped, and tests again what survived.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIGURATION = HERE / "mutmut.yaml"
SURVIVORS = HERE / "survivors.yaml"
_GENERATED = " # type: ignore # mutmut generated"
# mutmut leaves decorated functions out. In the copy these decorators are called instead, which means the same.
_DECORATORS = (
    "contextmanager",
    "contextlib.contextmanager",
    "property",
    "cached_property",
    "cache",
)


# Each mutant is a fork that runs pytest: without a search for plugins it takes a tenth of a second, and libraries with threads of
# their own are not asked for more than there are cores.
ENVIRONMENT = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Mutant:
    """One fault: where, what it changes, and whether a test failed."""

    key: str
    path: str
    function: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    exit_code: int | None

    @property
    def killed(self) -> bool:
        """Whether tests failed (1, 3), or would have run for ever (24, 36, 152, -9, -24)."""
        return self.exit_code in (1, 3, 24, 36, 152, -9, -24)


def copy(folder: Path) -> None:
    """Bring a copy of the checkout up to date; unchanged files keep their times, so that mutmut keeps its results."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        listed, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in names:
        source, target = ROOT / name, folder / name
        if not source.is_file():
            continue
        data = source.read_bytes()
        if name.endswith(".py") and name.startswith(("enginery/", "tasks/")):
            data = undecorated(data.decode()).encode()
        if not target.is_file() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def undecorated(source: str) -> str:
    """The same module with `name = decorator(name)` after each function that had one of the known decorators."""
    lines = source.split("\n")
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        and [ast.unparse(each) for each in node.decorator_list] != []
    ]
    for node in sorted(functions, key=lambda node: -node.lineno):
        names = [ast.unparse(each) for each in node.decorator_list]
        if all(name in _DECORATORS for name in names):
            assert node.end_lineno is not None
            call = node.name
            for name in reversed(names):
                call = f"{name}({call})"
            lines.insert(node.end_lineno, f"{' ' * node.col_offset}{node.name} = {call}")
            for decorator in node.decorator_list:
                lines[decorator.lineno - 1] = ""
    return "\n".join(lines)


def configure(folder: Path) -> None:
    """Write mutmut's configuration into the copy."""
    settings = yaml.safe_load(CONFIGURATION.read_text())
    tests = [
        str(path.relative_to(folder))
        for pattern in settings.pop("tests")
        for path in sorted(folder.glob(pattern))
    ]
    skipped = [word for name in settings.pop("skipped_tests") for word in ("--deselect", name)]
    arguments = ["-p", "no:xdist", "-p", "no:cacheprovider", *skipped]
    settings |= {"pytest_add_cli_args_test_selection": tests, "pytest_add_cli_args": arguments}
    lines = [
        f"{key} =\n    " + "\n    ".join(value) if isinstance(value, list) else f"{key} = {value}"
        for key, value in settings.items()
    ]
    (folder / "setup.cfg").write_text("[mutmut]\n" + "\n".join(lines) + "\n")


def results(folder: Path) -> Iterator[Mutant]:
    """Every mutant with its result."""
    for meta in sorted((folder / "mutants").rglob("*.py.meta")):
        path = str(meta.relative_to(folder / "mutants"))[: -len(".meta")]
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        spans = json.loads(Path(f"{str(meta)[: -len('.meta')]}.spans").read_text())["spans"]
        lines = (folder / "mutants" / path).read_text().split("\n")
        for key, code in codes.items():
            name = key.rpartition(".")[2]
            before, after = (
                _body(lines, spans[each])
                for each in (name.partition("__mutmut_")[0] + "__mutmut_orig", name)
            )
            function = (
                name.partition("__mutmut_")[0]
                .removeprefix("x_")
                .removeprefix("xǁ")
                .replace("ǁ", ".")
            )
            yield Mutant(key, path, function, *_difference(before, after), code)


def _body(lines: list[str], span: list[int]) -> list[str]:
    start, end = span
    body = [line.strip().replace(_GENERATED, "") for line in lines[start - 1 : end]]
    name = next(number for number, line in enumerate(body) if line.startswith("def "))
    return body[name + 1 :]


def _difference(before: list[str], after: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    start = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    end = next(
        (n for n, (a, b) in enumerate(zip(before[::-1], after[::-1], strict=False)) if a != b), 0
    )
    return tuple(before[start : len(before) - end]), tuple(after[start : len(after) - end])


def _is_asked(mutant: Mutant, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch(mutant.key, pattern) for pattern in patterns)


def _chosen(mutants: list[Mutant], again: bool, sample: int | None) -> list[str]:
    """The names to test: of each module a sample, or what tests did not kill."""
    by_path: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_path.setdefault(mutant.path, []).append(mutant)
    if again:
        return [mutant.key for mutant in mutants if mutant.exit_code not in (None, 1, 3)]
    found = []
    for path, every in by_path.items():
        drawn = random.Random(path).sample(every, min(sample or len(every), len(every)))
        found += [mutant.key for mutant in drawn if mutant.exit_code not in (1, 3)]
    return found


def main() -> None:
    """Copy, run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--only", action="append", default=[], help="patterns of mutants, as enginery.calibration.*"
    )
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument(
        "--survivors", action="store_true", help="only print what survived the last run"
    )
    parser.add_argument("--again", action="store_true", help="test again what was not killed")
    parser.add_argument("--sample", type=int, help="so many mutants a module, the same each time")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder.resolve()
    if not given.survivors:
        copy(folder)
        configure(folder)
        names = given.only
        if given.again or given.sample:
            asked = [mutant for mutant in results(folder) if _is_asked(mutant, given.only)]
            names = _chosen(asked, given.again, given.sample)
        command = [
            str(Path(sys.executable).with_name("mutmut")),
            "run",
            "--max-children",
            str(given.children),
            *names,
        ]
        with (folder / "mutmut.log").open("w") as log:
            subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=False, stdout=log, stderr=log)
    for mutant in results(folder):
        left = mutant.exit_code is not None and not mutant.killed
        if left and _is_asked(mutant, given.only):
            print(
                f"{mutant.path} {mutant.function} [{mutant.exit_code}] {mutant.key.rpartition('_')[2]}"
            )
            for line in mutant.removed:
                print(f"   - {line}")
            for line in mutant.added:
                print(f"   + {line}")


if __name__ == "__main__":
    main()
