"""Every bad input of `cases`, and a table of what the product says to it.

    .venv/bin/python -m benchmarks.trouble.inputs [--only REGEX] [--jobs 2] [--slack 3]
        [--keep FOLDER] [--log FILE] [--resume]

Each case gets a copy of a built checkout. It passes if one line says the cause within the time
limit, there is no traceback, the exit code is right, nothing bad is registered, the rest is built,
and no process and no partial file is left. `--slack` multiplies the time limits on a busy machine.
The exit code is 0 only if all cases pass.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks.trouble.cases import cases
from benchmarks.trouble.cases.case import Case
from benchmarks.trouble.checkouts import Place, copied, machine, prefect_server, template
from benchmarks.trouble.outputs import differences, digests, partial_files
from benchmarks.trouble.processes import Ended, describe, kill_all, side_by_side, working_in
from benchmarks.trouble.surroundings import prepare, strange_servers

AWAY = "artifacts/build/good/rtx-ampere/fp16/model.plan"
MEMORY_LIMIT = ("prlimit", f"--as={12 << 30}")  # a bomb must not take the machine with it
MOST_LINES, LONGEST_LINE = 60, 1500
SWALLOWED = re.compile(r"failed to run: .*exited with|said nothing|encountered an exception")
AFTERWARDS_S = 40  # what a run may take to end, after it should have said the cause


@dataclass(frozen=True)
class Verdict:
    """How a case went: `says` is the line with the cause, `at_s` when it came.

    `problems` is empty if it passed.
    """

    name: str
    row: int
    says: str
    at_s: float
    seconds: float
    problems: tuple[str, ...]


def main() -> int:
    """Run the cases; 0 if all passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="only cases whose name has this"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many cases side by side")
    parser.add_argument("--slack", type=float, default=1, help="multiplies the time limits")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the checkouts of cases that fail here"
    )
    parser.add_argument(
        "--log", type=Path, default=Path("inputs.jsonl"), help="one JSON line a case"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out the cases that the log has"
    )
    parser.add_argument("--list", action="store_true", help="only name the cases")
    args = parser.parse_args()
    old = _logged(args.log) if args.resume else []
    known = {verdict.name for verdict in old}
    chosen = [
        case for case in cases() if re.search(args.only, case.name) and case.name not in known
    ]
    if args.list:
        print("\n".join(f"{case.name} (row {case.row})" for case in chosen))
        return 0
    print(machine())
    with (
        prefect_server() as server,
        strange_servers() as strange,
        side_by_side(args.jobs) as pool,
    ):
        source = template("inputs", server, prepare)
        strange["server_root"] = server.removesuffix("/api")
        verdicts = list(old)
        with args.log.open("a" if args.resume else "w") as log:
            work = [
                pool.submit(_safely, _filled(case, strange), source, args.slack, args.keep)
                for case in chosen
            ]
            for done in as_completed(work):
                verdict = done.result()
                verdicts.append(verdict)
                log.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")
                log.flush()
                state = "ok  " if not verdict.problems else "FAIL"
                print(
                    f"{state} {verdict.at_s:6.1f} s  {verdict.name}",
                    *(f"\n       {one}" for one in verdict.problems),
                    flush=True,
                )
    print(table(verdicts))
    failed = sum(bool(verdict.problems) for verdict in verdicts)
    print(f"{len(verdicts) - failed} of {len(verdicts)} pass")
    return 1 if failed else 0


def _logged(log: Path) -> list[Verdict]:
    lines = log.read_text().splitlines() if log.is_file() else []
    found = [
        json.loads(line) for line in lines if line.endswith("}")
    ]  # the last line may be cut off
    return [Verdict(**{**one, "problems": tuple(one["problems"])}) for one in found]


def _safely(case: Case, source: Place, slack: float, keep: Path | None) -> Verdict:
    """A case that this script cannot run has not passed, and the others go on."""
    try:
        return run_case(case, source, slack, keep)
    except Exception as error:
        return Verdict(case.name, case.row, "", 0, 0, (f"the script itself: {error!r}",))


def run_case(case: Case, source: Place, slack: float, keep: Path | None) -> Verdict:
    """One case in a checkout of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(
        prefix="enginery-trouble-", ignore_cleanup_errors=True
    ) as folder:
        place = replace(
            copied(source, Path(folder) / "case"), variables=case.variables, wrapper=MEMORY_LIMIT
        )
        place.remove(AWAY)
        case.harm(place)
        ended = place.run(*case.command, limit=case.limit_s * slack + AFTERWARDS_S)
        line, at_s = _said(case, ended)
        problems = [*_what_it_said(case, ended, line, at_s, slack), *_what_it_left(case, place)]
        problems += _what_it_did(case, source, place)
        wrong = case.check(replace(place, variables={}))
        problems += [wrong] if wrong else []
        if problems and keep:
            shutil.rmtree(keep / re.sub(r"\W+", "-", case.name), ignore_errors=True)
            shutil.copytree(
                place.folder,
                keep / re.sub(r"\W+", "-", case.name),
                symlinks=True,
                dirs_exist_ok=True,
            )
            (keep / re.sub(r"\W+", "-", case.name) / "said.txt").write_text(ended.text)
    return Verdict(case.name, case.row, line, at_s, time.monotonic() - began, tuple(problems))


def _said(case: Case, ended: Ended) -> tuple[str, float]:
    """The first line with the cause, and when it came."""
    for at_s, line in ended.lines if case.says else ():
        if re.search(case.says, line):
            return line.strip(), at_s
    return "", ended.seconds


def _what_it_said(case: Case, ended: Ended, line: str, at_s: float, slack: float) -> Iterator[str]:
    if ended.code is None:
        yield f"it had not ended after {ended.seconds:.0f} s; it said: {ended.last()}"
        return
    expected = (0, 1) if case.code is None else (case.code,)
    if ended.code not in expected:
        right = " or ".join(map(str, expected))
        yield f"exit code {ended.code}, {right} is right; it said: {ended.last()}"
    needed = case.says and not (case.code is None and ended.code == 0 and case.after != "any")
    if needed and not line:
        yield f"no line says {case.says!r}; it said: {ended.last()}"
    if "Traceback (most recent call last)" in ended.text:
        yield f"a traceback: {ended.last(200)}"
    swallowed = SWALLOWED.search(ended.text)
    if swallowed:
        yield f"the cause is swallowed: {swallowed.group()[:200]}"
    if at_s > case.limit_s * slack:
        yield f"after {at_s:.1f} s, {case.limit_s * slack:.0f} are allowed"
    if len(ended.lines) > MOST_LINES:
        yield f"{len(ended.lines)} lines"
    longest = max((len(one) for _, one in ended.lines), default=0)
    if longest > LONGEST_LINE:
        yield f"a line of {longest} characters"


def _what_it_left(case: Case, place: Place) -> Iterator[str]:
    end = time.monotonic() + 5
    while (left := working_in(place.folder)) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        yield f"{len(left)} processes are left: {describe(left)[:300]}"
        kill_all(left)
    partial = partial_files(place.root)
    if partial:
        yield f"partial files are left: {', '.join(partial[:4])}"


def _what_it_did(case: Case, source: Place, place: Place) -> Iterator[str]:
    if case.after == "any":
        return
    if case.after in ("whole", "same plans"):
        wrong = differences(_template_digests(source.root), digests(place.root))
        if case.after == "same plans":
            wrong = [one for one in wrong if not one.endswith("/manifest.json differs")]
    else:
        engines = _template_digests(source.root, "engines")
        wrong = differences(engines, digests(place.root, "engines"))
    if wrong:
        yield f"{len(wrong)} files are not as before: {'; '.join(wrong[:3])}"
    if case.after == "others" and not (place.root / AWAY).is_file():
        yield f"the rest did not go on: {AWAY} was not restored"
    if case.after == "nothing" and (place.root / AWAY).is_file():
        yield "something was started"


@cache
def _template_digests(root: Path, part: str = "") -> dict[str, str]:
    return digests(root, part)


def _filled(case: Case, places: Mapping[str, str]) -> Case:
    """With the URLs that are known only now."""
    if not case.variables:
        return case
    variables = {name: value.format(**places) for name, value in case.variables.items()}
    says = re.sub(r"\{(\w+)\}", lambda match: re.escape(places[match.group(1)]), case.says)
    return replace(case, variables=variables, says=says)


def table(verdicts: list[Verdict]) -> str:
    """All cases as a Markdown table."""
    rows = ["| bad input | row | says | after | pass |", "|---|---|---|---|---|"]
    for one in verdicts:
        said = one.says.replace("|", "\\|")[:160] or "-"
        passed = "no" if one.problems else "yes"
        rows.append(f"| {one.name} | {one.row or ''} | {said} | {one.at_s:.1f} s | {passed} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
