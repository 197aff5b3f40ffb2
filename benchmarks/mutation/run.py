"""Runs mutmut over a copy of the checkout, and says which faults the tests let pass.

    python -m benchmarks.mutation.run FOLDER [--only PATTERN]
        [--sample N [--whole PATTERN] | --again]

It needs an environment with the project and mutmut==3.8.1. FOLDER gets the copy; a second run there
goes on where the first one stopped. `python -m benchmarks.mutation.table FOLDER` writes the table.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import yaml

from benchmarks.mutation.mutants import Mutant, read_mutants

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = Path(__file__).with_name("mutmut.yaml")
RUNNER = Path(__file__).with_name("collected.py")
# mutmut leaves decorated functions out. In the copy these decorators are called instead, which
# means the same.
_DECORATORS = (
    "contextmanager",
    "contextlib.contextmanager",
    "property",
    "cached_property",
    "cache",
)
# Each mutant is a fork that runs pytest. It is cheap without a search for plugins, and without a
# garbage collector that would
# touch, and so copy, all that the parent has loaded.
_VARIABLES = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
_NOTHING = "no such mutant"
_NO_COLLECTOR = "import gc\n\ngc.disable()\n"


def main() -> None:
    """Copy, run, and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--only", action="append", default=[], help="mutants, as enginery.calibration.*"
    )
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="only what was not killed")
    parser.add_argument("--sample", type=int, help="so many a module, the same each time")
    parser.add_argument(
        "--whole", action="append", default=[], help="mutants that no sample leaves out"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder.resolve()
    copy_checkout(folder)
    configure(folder)
    names = given.only
    if given.again or given.sample:
        mutmut(folder, "run", _NOTHING)  # makes what is missing
        asked = [mutant for mutant in read_mutants(folder) if _matches(mutant, given.only)]
        names = _survivors(asked) if given.again else _sample(asked, given.sample, given.whole)
    mutmut(folder, "run", "--max-children", str(given.children), *names)
    for mutant in read_mutants(folder):
        if mutant.tested and not mutant.killed and _matches(mutant, given.only):
            print(f"{mutant.key} ({mutant.exit_code})\n{mutant.change}")


def mutmut(folder: Path, *arguments: str) -> None:
    """Run it in the copy; what it says goes into mutmut.log there."""
    command = [sys.executable, "-P", str(RUNNER), *arguments]
    with (folder / "mutmut.log").open("w") as log:
        subprocess.run(
            command, cwd=folder, env=environment(folder), stdout=log, stderr=log, check=False
        )


def copy_checkout(folder: Path) -> None:
    """Bring the copy up to date; unchanged files keep their times, so that mutmut keeps its
    results.
    """
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(lambda name: (ROOT / name).is_file(), found.splitlines()):
        data, target = (ROOT / name).read_bytes(), folder / name
        if name.endswith(".py") and name.startswith(("enginery/", "tasks/")):
            data = undecorated(data.decode()).encode()
        if not target.is_file() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def undecorated(source: str) -> str:
    """The same module with `name = decorator(name)` after functions that had one of the known
    decorators.
    """
    lines = source.split("\n")
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    for node in sorted(functions, key=lambda node: -node.lineno):
        names = [ast.unparse(each) for each in node.decorator_list]
        if not all(name in _DECORATORS for name in names):
            continue
        call = node.name
        for name in reversed(names):
            call = f"{name}({call})"
        assert node.end_lineno is not None
        lines.insert(node.end_lineno, f"{' ' * node.col_offset}{node.name} = {call}")
        for decorator in node.decorator_list:
            lines[decorator.lineno - 1] = ""
    return "\n".join(lines)


def configure(folder: Path) -> None:
    """Write mutmut's configuration into the copy."""
    settings = yaml.safe_load(CONFIGURATION.read_text())
    patterns = settings.pop("tests")
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    settings["pytest_add_cli_args_test_selection"] = [
        str(path.relative_to(folder)) for path in found
    ]
    plugins = (
        "cacheprovider",
        "unraisableexception",
        "threadexception",
    )  # two of them collect garbage, five times
    left_out = [f"--deselect={name}" for name in settings.pop("without")]
    off = [word for name in plugins for word in ("-p", f"no:{name}")]
    settings["pytest_add_cli_args"] = off + left_out
    lines = [f"{key} = {_value(value)}" for key, value in settings.items()]
    (folder / "setup.cfg").write_text("\n".join(["[mutmut]", *lines, ""]))


def environment(folder: Path) -> dict[str, str]:
    """The variables of mutmut and all its forks."""
    start = folder / "start"
    start.mkdir(exist_ok=True)
    (start / "sitecustomize.py").write_text(_NO_COLLECTOR)
    temporary = (
        folder / "tmp"
    )  # pytest looks through it at each start: nothing else shall lie there
    temporary.mkdir(exist_ok=True)
    own = {"PYTHONPATH": str(start), "PYTEST_DEBUG_TEMPROOT": str(temporary)}
    return {**os.environ, **_VARIABLES, **own}


def _value(value: object) -> str:
    return "".join(f"\n    {each}" for each in value) if isinstance(value, list) else str(value)


def _matches(mutant: Mutant, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch(mutant.key, pattern) for pattern in patterns)


def _survivors(mutants: Sequence[Mutant]) -> list[str]:
    return [mutant.key for mutant in mutants if mutant.tested and not mutant.killed]


def _sample(mutants: Sequence[Mutant], count: int, whole: Sequence[str]) -> list[str]:
    """Of each module so many, without those that are killed already; a larger sample has all of a
    smaller.
    """
    by_path: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_path.setdefault(mutant.path, []).append(mutant)
    drawn = [
        mutant
        for path, every in by_path.items()
        for number, mutant in enumerate(random.Random(path).sample(every, len(every)))
        if number < count or (whole and _matches(mutant, whole))
    ]
    return [mutant.key for mutant in drawn if not mutant.killed]


if __name__ == "__main__":
    main()
