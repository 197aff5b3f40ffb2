"""The command `enginery`.

Each command is a small function; heavy packages are imported by the one that needs them.
"""

from __future__ import annotations

import argparse
import logging
import sys

from enginery import __version__
from enginery.cli import (
    add_command,
    add_model,
    build,
    calibration,
    exit_code,
    export_ultralytics,
    gpus,
    init,
    inspect,
    predict,
    push,
    registered,
    sensitivity,
    serve,
    server,
    toolchain,
    upgrade,
    validate,
    verify,
)
from enginery.system.home import ensure_home
from enginery.system.processes import interrupt_on_sigterm

Arguments = argparse.Namespace


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 if all is well, 1 with one line if not, 130 when interrupted."""
    args = parser().parse_args(argv)
    interrupt_on_sigterm()

    def run() -> int:
        if note := ensure_home():
            print(note, file=sys.stderr)
        return int(args.run(args))

    return exit_code(run)


def parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    top = argparse.ArgumentParser(
        prog="enginery", description="Trained models into TensorRT engines that a team can trust."
    )
    top.add_argument("--version", action="version", version=f"enginery {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    init.add(commands)
    add_model.add(commands)
    upgrade.add(commands)
    build.add(commands)
    registered.add(commands)
    calibration.add(commands)
    sensitivity.add(commands)
    toolchain.add(commands)
    gpus.add(commands)
    validate.add(commands)
    inspect.add(commands)
    predict.add(commands)
    export_ultralytics.add(commands)
    verify.add(commands)
    push.add(commands)
    add_command(commands, "status", _status, "what is stale and why")
    serve.add(commands)
    server.add(commands)
    return top


def _status(args: Arguments) -> int:
    from enginery.errors import Elsewhere, Lost
    from enginery.pipeline import Pipeline
    from enginery.pipeline.staleness import explain
    from enginery.project.params import load_spec
    from enginery.project.paths import steps
    from enginery.system.checkout_lock import only_run
    from enginery.toolchain.selection import absent
    from tasks.fingerprint import fingerprint

    logging.getLogger("dvc").setLevel(logging.ERROR)
    spec = load_spec()
    with only_run():  # it writes recipes, which a run at work reads
        excluded = fingerprint()
        gone = absent(spec)
        here = [
            step
            for step in steps(spec)
            if step.target not in excluded and step.toolchain not in gone
        ]
        every = [step for step in here if step.name != "fingerprint"]
        pipeline = Pipeline()
        stale = {
            step.title: explain(step, reason)
            for step in every
            if (reason := pipeline.stale(step.address))
        }
    for name, error in excluded.items():
        why = (
            f"{type(error).__name__.lower()}: {error.why}"
            if isinstance(error, Elsewhere)
            else f"broken: {error}"
        )
        print(f"{name}: {why}")
    for title, reason in stale.items():
        print(f"{title}: {reason}")
    print(
        f"{len(stale)} of {len(every)} steps are stale"
        if stale
        else f"all {len(every)} steps are up to date"
    )
    return (
        1
        if any(
            not isinstance(error, Elsewhere) or isinstance(error, Lost)
            for error in excluded.values()
        )
        else 0
    )
