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
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.trouble.checkouts import (
    ROOT,
    Params,
    Place,
    machine,
    must,
    prefect_server,
    template,
)
from benchmarks.trouble.place_cases import (
    CONDITIONS,
    FULL,
    MODEL,
    RUN_LIMIT_S,
    case_folder,
    play_case,
    undisturbed_run,
)
from benchmarks.trouble.place_verdicts import Verdict


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
        print(
            json.dumps(asdict(play_case(name, server, Path(folder), args.keep)), ensure_ascii=False)
        )
        return 0
    if os.geteuid() != 0:
        raise SystemExit("it mounts folders: run it as root")
    print(machine(), flush=True)
    old = _logged(args.log) if args.resume else []
    known = {verdict.name for verdict in old}
    verdicts = list(old)
    with prefect_server() as server, args.log.open("a" if args.resume else "w") as log:
        source = template("places", server, _prepare)
        undisturbed_run(source)
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
    shutil.rmtree(case_folder(os.getpid()), ignore_errors=True)  # in there it was full of mounts
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return Verdict(
            **{**found, "problems": tuple(found["problems"]), "remarks": tuple(found["remarks"])}
        )
    except (IndexError, ValueError, TypeError):
        last = (done.stdout + done.stderr).splitlines()[-3:]
        said = " | ".join([f"it ended with {done.returncode}", *last])
        return Verdict(name, "", 0, 0, (f"the script itself: {said}",))


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
