"""Makes faults by hand in a copy of the checkout, one after another, and says whether their tests fail of them.

    python -m benchmarks.mutation.faults FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).with_name("faults.yaml")


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, and the test that must fail of it."""

    fault: str
    file: str
    before: str
    after: str
    test: str


def read_faults() -> list[Fault]:
    """All faults of faults.yaml."""
    return [
        Fault(each["fault"], each["file"], each["from"], each["to"], each["test"])
        for each in yaml.safe_load(FAULTS.read_text())
    ]


def copy_checkout(folder: Path) -> None:
    """The files that git knows or would know."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(lambda name: (ROOT / name).is_file(), names.splitlines()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())


def passes(folder: Path, test: str) -> bool:
    """Whether a test passes in the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", test]
    code = subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode
    if code not in (0, 1):
        raise SystemExit(f"{test} cannot be run: pytest ended with {code}")
    return code == 0


def is_caught(folder: Path, fault: Fault) -> bool:
    """Whether the test passes without the fault and fails with it."""
    path = folder / fault.file
    original = path.read_text()
    if fault.before not in original:
        raise SystemExit(f"{fault.file} has no {fault.before!r}: correct faults.yaml")
    if not passes(folder, fault.test):
        raise SystemExit(f"{fault.test} fails without any fault")
    try:
        path.write_text(original.replace(fault.before, fault.after, 1))
        return not passes(folder, fault.test)
    finally:
        path.write_text(original)


def main() -> None:
    """Try every fault; exit 1 if one passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="faults with these words")
    given = parser.parse_args()
    copy_checkout(given.folder)
    missed = 0
    for fault in read_faults():
        if given.only in fault.fault:
            caught = is_caught(given.folder, fault)
            missed += not caught
            print(f"{'caught' if caught else 'MISSED'}: {fault.fault} ({fault.test})", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
