"""The cases of `places`: a full place, a read-only checkout, no HOME, and an unknown user."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.trouble.checkouts import Params, Place, copied, must, product_digest, workshop
from benchmarks.trouble.mounts import hide_home, mount, mounted
from benchmarks.trouble.outputs import digests, partial_files
from benchmarks.trouble.place_verdicts import (
    Undisturbed,
    Verdict,
    after_recovery,
    left_processes,
    lost_engines,
    outcome_of,
    unclear_end,
)
from benchmarks.trouble.processes import Ended, adopt_orphans, below_me, kill_all

MODEL = "yolov8n-shapes"
NOBODY = 54321
RUN_LIMIT_S = 600
NO_ROOM = "(no room|no space|disk is full|disk full)"
NO_RIGHT = "(read-only|permission denied|cannot be written|not writable)"


# Where there is no room, and how a line may call the place.
FULL = {
    "artifacts": "artifacts",
    "DVC's cache": r"\.dvc/cache|cache",
    "DVC's tmp": r"\.dvc/tmp",
    "TMPDIR": "/tmp|TMPDIR|temporary",
    "Prefect's home": "prefect",
    "HOME": "/home|HOME|settings",
    "data": "data",
    "the folder of dvc.lock": r"dvc\.lock|checkout",
}


def _change(params: Params) -> None:
    """What the disturbed run has to do: every step anew, and a second engine."""
    params["models"][MODEL].update(height=192)
    params["demo"]["validation_images"] = 4
    params["matrix"]["targets"] = ["rtx-ada", "rtx-ampere"]


def folders(place: Place) -> dict[str, Path]:
    """The folders that a run writes into."""
    return {
        "artifacts": place.root / "artifacts",
        "DVC's cache": place.root / ".dvc/cache",
        "DVC's tmp": place.root / ".dvc/tmp",
        "TMPDIR": place.temporary,
        "Prefect's home": place.folder / "prefect",
        "HOME": place.folder / "home",
        "data": place.root / "data",
        "the folder of dvc.lock": place.root,
    }


def undisturbed_run(source: Place) -> Undisturbed:
    """The run that all others are compared with, kept beside the template."""
    kept = workshop() / f"places-{product_digest()}-undisturbed.json"
    if not kept.is_file():
        place = replace(copied(source, workshop() / f"undisturbed-{os.getpid()}"), server="")
        place = replace(place, variables={"HOME": str(place.folder / "home")})
        (place.folder / "home").mkdir()
        place.change(_change)
        began = time.time()
        must(place.run("build", limit=RUN_LIMIT_S), "the undisturbed run")
        written = {name: _written(folder, began) for name, folder in folders(place).items()}
        written["the folder of dvc.lock"] = (place.root / "dvc.lock").stat().st_size
        kept.write_text(json.dumps([digests(source.root), digests(place.root), written]))
        shutil.rmtree(place.folder)
    return Undisturbed(*json.loads(kept.read_text()))


def _written(folder: Path, since: float) -> int:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files if path.stat().st_ctime >= since)


def play_case(name: str, server: str, source: Path, keep: Path | None) -> Verdict:
    """One case, in this process's mount namespace."""
    adopt_orphans()
    about = undisturbed_run(Place(source, server))
    folder = case_folder(os.getppid())
    place = copied(Place(source, server), folder, linked=False)
    (folder / "home").mkdir()
    try:
        with ExitStack() as stack:
            if name in CONDITIONS:
                place.change(_change)
                verdict = CONDITIONS[name](name, place, about, stack)
            else:
                how, which = name.split(": ")
                place.change(_change)
                verdict = _without_room(name, which, how == "room for half", place, about, stack)
            if verdict.problems and keep:
                shutil.rmtree(keep / re.sub(r"\W+", "-", name), ignore_errors=True)
                shutil.copytree(
                    place.folder,
                    keep / re.sub(r"\W+", "-", name),
                    symlinks=True,
                    dirs_exist_ok=True,
                )
    finally:
        kill_all(below_me())
    return verdict


def case_folder(script: int) -> Path:
    """Where the script with this process number has a case's checkout."""
    return workshop() / f"place-{script}"


def _without_room(
    name: str, which: str, half: bool, place: Place, about: Undisturbed, stack: ExitStack
) -> Verdict:
    """A place is full from the start, or after half of what the run writes there."""
    variables = {"HOME": str(place.folder / "home")}
    place = replace(
        place, variables=variables, server="" if which == "Prefect's home" else place.server
    )
    target = folders(place)[which]
    parts = ("artifacts", ".dvc", "data") if which == "the folder of dvc.lock" else ()
    apart = [place.root / part for part in parts]
    with mounted(target, apart) as resize:
        resize(about.written[which] // 2 if half else 0)
        first = place.run("build", limit=RUN_LIMIT_S)
        problems = [
            *unclear_end(first, rf"{NO_ROOM}.*({FULL[which]})|({FULL[which]}).*{NO_ROOM}"),
            *lost_engines(place, about),
        ]
        remarks = (
            [f"partial files: {', '.join(partial_files(place.root)[:3])}"]
            if partial_files(place.root)
            else []
        )
        problems += left_processes()
        resize(None)
        then = place.run("build", limit=RUN_LIMIT_S)
        problems += after_recovery(then, place, about)
    return Verdict(
        name,
        outcome_of(first, NO_ROOM),
        first.seconds,
        then.seconds,
        tuple(problems),
        tuple(remarks),
    )


def _read_only(name: str, place: Place, about: Undisturbed, stack: ExitStack) -> Verdict:
    """Commands that only read work in a read-only checkout; a build says why it does not."""
    mount("--bind", str(place.root), str(place.root))
    mount("-o", "remount,ro,bind", str(place.root))
    problems = []
    for words in (("list",), ("verify",), ("show", "rtx-ada/fp16")):
        ended = place.run(*words, limit=60)
        if ended.code != 0:
            problems.append(f"{words[0]} ends with {ended.code}: {ended.last()}")
    problems += [f"status: {one}" for one in unclear_end(place.run("status", limit=120), NO_RIGHT)]
    first = place.run("build", limit=RUN_LIMIT_S)
    problems += [*unclear_end(first, NO_RIGHT), *lost_engines(place, about), *left_processes()]
    if first.code == 0:
        problems.append("the build says that it worked")
    mount("-o", "remount,rw,bind", str(place.root))
    then = place.run("build", limit=RUN_LIMIT_S)
    problems += after_recovery(then, place, about)
    return Verdict(name, outcome_of(first, NO_RIGHT), first.seconds, then.seconds, tuple(problems))


def _as(
    variables: Mapping[str, str], **process: Any
) -> Callable[[str, Place, Undisturbed, ExitStack], Verdict]:
    """A run with other variables, as another user, or with another umask; it must work."""

    def play(name: str, place: Place, about: Undisturbed, stack: ExitStack) -> Verdict:
        hide_home()
        if "user" in process:
            _open_to_all(place, process["user"])
        other = replace(place, variables=variables, process=process)
        first = other.run("build", limit=RUN_LIMIT_S)
        problems = [
            f"{words[0]}: {one}"
            for words in (("list",), ("status",))
            for one in _fails(other.run(*words, limit=120))
        ]
        problems = [*_fails(first), *problems, *after_recovery(first, place, about)]
        open_ = [
            path
            for path in (*place.root.rglob("*"), place.temporary)
            if not path.is_symlink() and path.stat().st_mode & 0o002
        ]
        remarks = (
            [f"{len(open_)} files or folders that anybody may write, as {open_[0]}"]
            if open_
            else []
        )
        return Verdict(
            name,
            outcome_of(first, "error|Error"),
            first.seconds,
            0,
            tuple(problems),
            tuple(remarks),
        )

    return play


def _fails(ended: Ended) -> Iterator[str]:
    if ended.code != 0:
        yield f"exit code {ended.code}: {ended.last()}"
    if "Traceback (most recent call last)" in ended.text:
        yield "a traceback"


def _open_to_all(place: Place, user: int) -> None:
    """The checkout belongs to a user whom nobody knows, and its folder may be entered."""
    workshop().chmod(0o755)
    place.folder.chmod(0o755)
    subprocess.run(["chown", "-R", f"{user}:{user}", str(place.folder)], check=True)


STRANGER: Mapping[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
NO_HOME = {"HOME": "", "USER": "", "PREFECT_HOME": ""}
CONDITIONS: Mapping[str, Callable[[str, Place, Undisturbed, ExitStack], Verdict]] = {
    "read-only checkout": _read_only,
    "no HOME": _as(NO_HOME),
    "HOME that is not there": _as({**NO_HOME, "HOME": "/nowhere"}),
    "unknown user, no HOME": _as(NO_HOME, **STRANGER),
    "unknown user, HOME=/": _as({**NO_HOME, "HOME": "/"}, **STRANGER),
    "umask 000": _as({}, umask=0),
    "umask 077": _as({}, umask=0o077),
}
