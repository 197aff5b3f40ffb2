"""Full disks, a read-only checkout, no HOME, an unknown user: a clear line, and nothing is lost.

    .venv/bin/python -m benchmarks.trouble.places [--only REGEX] [--keep FOLDER] [--log FILE]
        [--resume]

Needs root on Linux. It mounts only in mount namespaces of its own. Each case starts from a built
checkout whose params.yaml was changed: every step is stale, and a second target is new. It passes
if the run works, or ends with 1 and one clear line that names the place; if every registered engine
is still there, whole, the old one or the new one; and if the next run, with room and rights again,
ends in the bytes of an undisturbed run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.trouble.checkouts import (
    PYTHON,
    ROOT,
    Params,
    Place,
    copied,
    machine,
    must,
    prefect_server,
    product_digest,
    template,
    workshop,
)
from benchmarks.trouble.outputs import differences, digests, partial_files
from benchmarks.trouble.processes import Ended, adopt_orphans, below_me, describe, kill_all

MODEL = "yolov8n-shapes"
NOBODY = 54321
RUN_LIMIT_S = 600
ROOMY, PAGE = "2g", 4096
NO_ROOM = "(no room|no space|disk is full|disk full)"
NO_RIGHT = "(read-only|permission denied|cannot be written|not writable)"


@dataclass(frozen=True)
class Verdict:
    """How a case went: `outcome` is "works", or the line with the cause.

    `problems` is empty if it passed.
    """

    name: str
    outcome: str
    seconds: float
    next_s: float
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Undisturbed:
    """The files before and after an undisturbed run, and how many bytes it writes at each place."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    written: Mapping[str, int] = field(default_factory=dict)


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


def main() -> int:
    """All cases; 0 if all passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="only cases whose name has this"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the checkouts of cases that fail here"
    )
    parser.add_argument(
        "--log", type=Path, default=Path("places.jsonl"), help="one JSON line a case"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out the cases that the log has"
    )
    parser.add_argument(
        "--worker", nargs=3, help=argparse.SUPPRESS
    )  # a case, in a mount namespace of its own
    args = parser.parse_args()
    if args.worker:
        name, server, folder = args.worker
        print(json.dumps(asdict(_play(name, server, Path(folder), args.keep)), ensure_ascii=False))
        return 0
    if os.geteuid() != 0:
        raise SystemExit("it mounts folders: run it as root")
    print(machine(), flush=True)
    old = _logged(args.log) if args.resume else []
    known = {verdict.name for verdict in old}
    verdicts = list(old)
    with prefect_server() as server, args.log.open("a" if args.resume else "w") as log:
        source = template("places", server, _prepare)
        _undisturbed(source)
        for name in (name for name in names() if re.search(args.only, name) and name not in known):
            verdict = _in_a_namespace(name, server, source, args.keep)
            verdicts.append(verdict)
            log.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")
            log.flush()
            print(_line(verdict), flush=True)
    print(table(verdicts))
    return 1 if any(verdict.problems for verdict in verdicts) else 0


def names() -> Iterator[str]:
    """What the cases are called."""
    for place in FULL:
        yield f"no room at all: {place}"
        yield f"room for half: {place}"
    yield from CONDITIONS


def _logged(log: Path) -> list[Verdict]:
    lines = log.read_text().splitlines() if log.is_file() else []
    found = [
        json.loads(line) for line in lines if line.endswith("}")
    ]  # the last line may be cut off
    return [
        Verdict(**{**one, "problems": tuple(one["problems"]), "remarks": tuple(one["remarks"])})
        for one in found
    ]


def _prepare(place: Place) -> None:
    def small(params: Params) -> None:
        params["models"][MODEL].update(height=160, width=160)
        params["demo"] = {"validation_images": 3, "calibration_images": 3}
        params["matrix"].update(targets=["rtx-ada"], precisions=["fp16"])
        params["int8"] = {}
        params["validation"] = {
            "map50_95_drop": 1.0,
            "rms_relative": {"fp32": 0.1, "fp16": 0.5, "int8": 1.0},
        }

    place.change(small)
    must(place.run("build", limit=RUN_LIMIT_S), "the build of the template")


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


def _undisturbed(source: Place) -> Undisturbed:
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


def _in_a_namespace(name: str, server: str, source: Place, keep: Path | None) -> Verdict:
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        "-m",
        "benchmarks.trouble.places",
    ]
    command += [
        "--worker",
        name,
        server,
        str(source.folder),
        *(["--keep", str(keep.resolve())] if keep else []),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    shutil.rmtree(_folder(os.getpid()), ignore_errors=True)  # in there it was full of mounts
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return Verdict(
            **{**found, "problems": tuple(found["problems"]), "remarks": tuple(found["remarks"])}
        )
    except (IndexError, ValueError, TypeError):
        last = (done.stdout + done.stderr).splitlines()[-3:]
        said = " | ".join([f"it ended with {done.returncode}", *last])
        return Verdict(name, "", 0, 0, (f"the script itself: {said}",))


def _play(name: str, server: str, source: Path, keep: Path | None) -> Verdict:
    """One case, in this process's mount namespace."""
    adopt_orphans()
    about = _undisturbed(Place(source, server))
    folder = _folder(os.getppid())
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


def _folder(script: int) -> Path:
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
            *_unclear(first, rf"{NO_ROOM}.*({FULL[which]})|({FULL[which]}).*{NO_ROOM}"),
            *_lost(place, about),
        ]
        remarks = (
            [f"partial files: {', '.join(partial_files(place.root)[:3])}"]
            if partial_files(place.root)
            else []
        )
        problems += _left()
        resize(None)
        then = place.run("build", limit=RUN_LIMIT_S)
        problems += _recovered(then, place, about)
    return Verdict(
        name, _outcome(first, NO_ROOM), first.seconds, then.seconds, tuple(problems), tuple(remarks)
    )


@contextmanager
def mounted(folder: Path, apart: list[Path]) -> Iterator[Callable[[int | None], None]]:
    """`folder` as a file system of its own; what yields makes so many bytes free in it, or plenty.

    The folders `apart`, below it, stay outside.
    """
    old = folder.with_name(f"{folder.name}.before")
    folder.mkdir(parents=True, exist_ok=True)
    folder.rename(old)
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(folder))
    outside = {path: old / path.relative_to(folder) for path in apart}
    skipped = {str(path) for path in outside.values()}

    def skip(where: str, names: list[str]) -> list[str]:
        return [name for name in names if str(Path(where) / name) in skipped]

    shutil.copytree(old, folder, symlinks=True, dirs_exist_ok=True, ignore=skip)
    for path, source in outside.items():
        path.mkdir()
        _mount("--bind", str(source), str(path))

    def resize(free: int | None) -> None:
        state = os.statvfs(folder)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        size = ROOMY if free is None else max(used + free, PAGE)
        _mount("-o", f"remount,size={size}", str(folder))

    yield resize


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def _unclear(ended: Ended, says: str) -> Iterator[str]:
    """What is wrong with how a run ended that should work, or end with one clear line."""
    if ended.code is None:
        yield f"it hung: stopped after {ended.seconds:.0f} s; it said: {ended.last()}"
        return
    if ended.code not in (0, 1):
        yield f"exit code {ended.code}; it said: {ended.last()}"
    if ended.code == 1 and not any(re.search(says, line, re.IGNORECASE) for _, line in ended.lines):
        yield f"no line names the cause and the place; it said: {ended.last()}"
    if "Traceback (most recent call last)" in ended.text:
        yield f"a traceback: {ended.last(200)}"


def _outcome(ended: Ended, says: str) -> str:
    if ended.code == 0:
        return "works"
    said = [line.strip() for _, line in ended.lines if re.search(says, line, re.IGNORECASE)]
    return said[0] if said else ended.last(160)


def _lost(place: Place, about: Undisturbed) -> Iterator[str]:
    """What is wrong with the registry: each engine must be there, whole, the old one or the new."""
    now = digests(place.root, "engines")
    for name in sorted(name for name in about.before if name.startswith("engines/")):
        if name not in now:
            yield f"{name} is lost"
        elif now[name] not in (about.before[name], about.after[name]):
            yield f"{name} is neither the old one nor the new one"
    for manifest in place.root.glob("artifacts/engines/*/*/*/manifest.json"):
        try:
            recorded = json.loads(manifest.read_text())["plan"]["sha256"]
            if (
                hashlib.sha256(manifest.with_name("model.plan").read_bytes()).hexdigest()
                != recorded
            ):
                yield f"{manifest.parent}: the plan is not its manifest's"
        except (OSError, ValueError, KeyError) as error:
            yield f"{manifest.parent}: {error}"


def _left() -> Iterator[str]:
    end = time.monotonic() + 10
    while (left := below_me()) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        yield f"processes are left: {describe(left)[:300]}"
        kill_all(left)


def _recovered(ended: Ended, place: Place, about: Undisturbed) -> Iterator[str]:
    """What is wrong after the next run."""
    if ended.code != 0:
        yield f"the next run ends with {ended.code}: {ended.last()}"
    wrong = differences(about.after, digests(place.root))
    if wrong:
        yield f"after the next run, {len(wrong)} files differ: {'; '.join(wrong[:3])}"
    partial = partial_files(place.root)
    if partial:
        yield f"after the next run, partial files are left: {', '.join(partial[:4])}"
    yield from _left()


def _read_only(name: str, place: Place, about: Undisturbed, stack: ExitStack) -> Verdict:
    """Commands that only read work in a read-only checkout; a build says why it does not."""
    _mount("--bind", str(place.root), str(place.root))
    _mount("-o", "remount,ro,bind", str(place.root))
    problems = []
    for words in (("list",), ("verify",), ("show", "rtx-ada/fp16")):
        ended = place.run(*words, limit=60)
        if ended.code != 0:
            problems.append(f"{words[0]} ends with {ended.code}: {ended.last()}")
    problems += [f"status: {one}" for one in _unclear(place.run("status", limit=120), NO_RIGHT)]
    first = place.run("build", limit=RUN_LIMIT_S)
    problems += [*_unclear(first, NO_RIGHT), *_lost(place, about), *_left()]
    if first.code == 0:
        problems.append("the build says that it worked")
    _mount("-o", "remount,rw,bind", str(place.root))
    then = place.run("build", limit=RUN_LIMIT_S)
    problems += _recovered(then, place, about)
    return Verdict(name, _outcome(first, NO_RIGHT), first.seconds, then.seconds, tuple(problems))


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
        problems = [*_fails(first), *problems, *_recovered(first, place, about)]
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
            name, _outcome(first, "error|Error"), first.seconds, 0, tuple(problems), tuple(remarks)
        )

    return play


def _fails(ended: Ended) -> Iterator[str]:
    if ended.code != 0:
        yield f"exit code {ended.code}: {ended.last()}"
    if "Traceback (most recent call last)" in ended.text:
        yield "a traceback"


def hide_home() -> None:
    """Replace root's home, in this namespace, by one with only the interpreter, open to all."""
    base = Path(os.path.realpath(ROOT / PYTHON)).parents[1]
    home = Path.home()
    if not base.is_relative_to(home):
        return
    empty = workshop() / f"home-{os.getpid()}"
    inside = empty / base.relative_to(home)
    inside.mkdir(parents=True)
    _mount("--bind", str(base), str(inside))
    _mount("--rbind", str(empty), str(home))


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


def _line(one: Verdict) -> str:
    state = "FAIL" if one.problems else "ok  "
    head = f"{state} {one.seconds:6.1f} s  {one.name}: {one.outcome[:160]}"
    return "\n".join(
        [
            head,
            *(
                f"       {text}"
                for text in (*one.problems, *(f"({remark})" for remark in one.remarks))
            ),
        ]
    )


def table(verdicts: list[Verdict]) -> str:
    """All cases as a Markdown table."""
    rows = ["| what | outcome | after | next run | pass |", "|---|---|---|---|---|"]
    for one in verdicts:
        outcome = one.outcome.replace("|", "\\|")[:160]
        passed = "no" if one.problems else "yes"
        times = f"{one.seconds:.0f} s | {one.next_s:.0f} s"
        rows.append(f"| {one.name} | {outcome} | {times} | {passed} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
