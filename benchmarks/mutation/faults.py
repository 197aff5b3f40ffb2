"""Makes faults by hand in a copy of the checkout, one after another, and says whether their tests
fail of them.

python -m benchmarks.mutation.faults FOLDER
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("torch", "onnx", "onnxruntime", "cv2", "matplotlib.pyplot", "pydantic", "PIL.Image")
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


def failing(folder: Path, tests: list[str]) -> bool:
    """Whether a test fails in the copy, in a fork of this process: libraries are imported once."""
    pid = os.fork()
    if not pid:
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os._exit(pytest.main(["-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", *tests]))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, 1):
        raise SystemExit(f"{', '.join(tests)} cannot be run: pytest ended with {code}")
    return code == 1


def is_caught(folder: Path, fault: Fault) -> bool:
    """Whether the test fails of the fault."""
    path = folder / fault.file
    original = path.read_text()
    if fault.before not in original:
        raise SystemExit(f"{fault.file} has no {fault.before!r}: correct faults.yaml")
    try:
        path.write_text(original.replace(fault.before, fault.after, 1))
        return failing(folder, [fault.test])
    finally:
        path.write_text(original)


def main() -> None:
    """Try every fault; exit 1 if one passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="faults with these words")
    given = parser.parse_args()
    folder = given.folder.resolve()
    copy_checkout(folder)
    sys.dont_write_bytecode = True  # a fault and its cure may come within one second
    for library in LIBRARIES:
        importlib.import_module(library)
    faults = [fault for fault in read_faults() if given.only in fault.fault]
    if failing(folder, sorted({fault.test for fault in faults})):
        raise SystemExit("a test fails without any fault")
    missed = [fault for fault in faults if not _said(folder, fault)]
    sys.exit(1 if missed else 0)


def _said(folder: Path, fault: Fault) -> bool:
    caught = is_caught(folder, fault)
    print(f"{'caught' if caught else 'MISSED'}: {fault.fault} ({fault.test})", flush=True)
    return caught


if __name__ == "__main__":
    main()
