"""`enginery verify`: every byte of every registered engine against its manifest and dvc.lock;
`--restore` brings damaged ones back.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enginery.cli import Command, new_app

if TYPE_CHECKING:
    from enginery.pipeline.lockfile import Output

    Outputs = Mapping[str, Output]  # by path

app = new_app()


@app.command(cls=Command)
def verify(
    restore: Annotated[
        bool,
        typer.Option("--restore", help="Bring damaged ones back from DVC's cache or remote."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an array of objects, for programs.")
    ] = False,
) -> int:
    """Read every byte of every engine again, and compare it with its manifest and dvc.lock."""
    from enginery.pipeline.lockfile import recorded
    from enginery.project.paths import ENGINES
    from enginery.registry.store import engine_folders

    folders = engine_folders(ENGINES)
    last = _last()
    if restore and not _restore(folders, last):
        return 1
    outputs = _by_path(recorded()) or last
    harms = dict(_harms(folders, outputs))
    damaged = sum(map(bool, harms.values()))
    if as_json:
        print(json.dumps(_summary(harms), indent=2))
        return int(damaged > 0)
    for line in itertools.chain.from_iterable(harms.values()):
        print(line)
    if damaged:
        cure = "`enginery verify --restore` brings back what DVC recorded"
        print(f"{damaged} of {len(folders)} engines are damaged: {cure}", file=sys.stderr)
        return 1
    if folders and not outputs:
        print("there is no dvc.lock: engines were compared with their own manifests only")
    _tell_uncommitted(folders, outputs, last)
    print(f"{len(folders)} engines, every digest as recorded")
    return 0


def _by_path(stages: Mapping[str, tuple[Output, ...]]) -> Outputs:
    return {output.path: output for outputs in stages.values() for output in outputs}


def _last() -> Outputs:
    """What the last commit recorded; nothing without git, or where nothing was committed."""
    from enginery.pipeline.lockfile import committed, parse

    content = committed()
    with suppress(ValueError):
        return _by_path(parse(content)) if content else {}
    return {}


def _harms(folders: Sequence[Path], outputs: Outputs) -> Iterator[tuple[Path, list[str]]]:
    """What of each engine is not what was recorded of it, one line each."""
    from enginery.report.events import progress

    for done, folder in enumerate(folders, 1):
        yield folder, _harm(folder, outputs)
        progress("verify", done, len(folders))


def _summary(harms: Mapping[Path, Sequence[str]]) -> list[dict[str, Any]]:
    """For programs: each engine, and what is wrong with it."""
    from enginery.project.engine_name import EngineName

    return [
        {"engine": str(EngineName.of(folder)), "whole": not harm, "damage": list(harm)}
        for folder, harm in harms.items()
    ]


def _harm(folder: Path, outputs: Outputs) -> list[str]:
    from enginery.pipeline.lockfile import md5_of
    from enginery.registry.store import damage, entry_in

    harm = damage(entry_in(folder))
    output = outputs.get(folder.as_posix())
    if outputs and output is None:
        return [*harm, f"{folder}: dvc.lock does not record this engine"]
    if output and not harm and md5_of(folder) != output.digest:
        return [f"{folder}: plan and manifest fit each other, and are not what dvc.lock records"]
    return harm


def _tell_uncommitted(folders: Sequence[Path], outputs: Outputs, last: Outputs) -> None:
    """Name the engines that differ from the last commit: its author knows whether they should."""
    from enginery.project.engine_name import EngineName

    names = {folder.as_posix(): EngineName.of(folder) for folder in folders}
    other = [
        str(name)
        for path, name in names.items()
        if path in outputs and last and last.get(path) != outputs[path]
    ]
    if other:
        why = "so built here since or altered with it"
        print(f"not as in the last commit's dvc.lock, {why}: {', '.join(other)}")


def _restore(folders: Sequence[Path], last: Outputs) -> bool:
    """Bring engines back, and what they were registered from; False if some cannot be."""
    from enginery.pipeline import Pipeline
    from enginery.pipeline.lockfile import recorded
    from enginery.report.events import progress
    from enginery.system.checkout_lock import checkout_lock

    with checkout_lock():
        pipeline, lost = Pipeline(), []
        outputs = _by_path(recorded()) or last
        for done, folder in enumerate(folders, 1):
            lost += pipeline.restore(_outputs_of(folder, outputs), print)
            progress("restore", done, len(folders))
    if lost:
        cure = "`enginery build` makes them again, on the machine with their toolchain and GPU"
        print(f"{len(lost)} outputs cannot be brought back: {cure}", file=sys.stderr)
    return not lost


def _outputs_of(folder: Path, outputs: Outputs) -> list[Output]:
    """An engine, and what lies here of its build."""
    from enginery.project.engine_name import EngineName
    from enginery.project.paths import build_folder

    name = EngineName.of(folder)
    build = build_folder(name.model, name.target, name.precision)
    here = [
        output
        for path, output in outputs.items()
        if Path(path).parent == build and Path(path).exists()
    ]
    engine = outputs.get(folder.as_posix())
    return [*here, *([engine] if engine else [])]
