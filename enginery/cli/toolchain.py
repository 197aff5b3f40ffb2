"""`enginery toolchain`: the interpreters with a TensorRT in them that targets name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from enginery.cli import add_command, add_group

Arguments = argparse.Namespace


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    text = "interpreters with one TensorRT each: list, check, add, remove"
    actions = add_group(commands, "toolchain", text)
    add_command(actions, "list", _list, "what every toolchain of params.yaml is")
    check = add_command(actions, "check", _check, "probe one interpreter and say what it can do")
    check.add_argument("toolchain", help="a name that `list` shows, or an interpreter's path")
    added = add_command(actions, "add", _add, "make one below .toolchains/ from the package index")
    added.add_argument("name")
    packages = "tensorrt-rtx-cu13==1.7.1.116; or tensorrt==10.16.1.11 numpy pycuda (with CUDA's compiler at hand)"
    added.add_argument("packages", nargs="+", metavar="PACKAGE", help=f"for example {packages}")
    added.add_argument(
        "--python",
        default=sys.executable,
        help="the interpreter to make it with (default: this one)",
    )
    removed = add_command(actions, "remove", _remove, "delete one made with add")
    removed.add_argument("name")


def _list(args: Arguments) -> int:
    from enginery.errors import ToolchainError
    from enginery.project.load import load_spec
    from enginery.report.display import print_table
    from enginery.toolchain.environments import identify
    from enginery.toolchain.selection import Toolchains

    rows = []
    for name, python in Toolchains(load_spec()).known.items():
        try:
            info = identify(python)
            gpus = ", ".join(gpu["gpu"] for gpu in info.gpus) or "-"
            rows.append(
                {
                    "toolchain": name,
                    "TensorRT": f"{info.runtime} {info.version}",
                    "GPU": gpus,
                    "python": python,
                }
            )
        except ToolchainError as error:
            rows.append(
                {
                    "toolchain": name,
                    "TensorRT": f"does not work: {error.what}",
                    "GPU": "-",
                    "python": python,
                }
            )
    print_table("Toolchains", rows)
    return 0


def _check(args: Arguments) -> int:
    from dataclasses import asdict

    from enginery.errors import ToolchainError
    from enginery.project.load import load_spec
    from enginery.system.files import dumps
    from enginery.toolchain.environments import identify
    from enginery.toolchain.selection import Toolchains

    known = Toolchains(load_spec()).known
    python = known.get(args.toolchain, Path(args.toolchain))
    if not python.exists() and args.toolchain not in known:
        what = f"{args.toolchain!r} is neither a toolchain of params.yaml nor the path of an interpreter"
        raise ToolchainError(what, f"Toolchains: {', '.join(known)}")
    print(dumps({"interpreter": python.as_posix(), **asdict(identify(python))}), end="")
    return 0


def _add(args: Arguments) -> int:
    from enginery.toolchain.environments import interpreter, make

    info = make(args.name, args.packages, args.python)
    print(
        f"{info.runtime} {info.version} works. In params.yaml:\ntoolchains:\n  {args.name}: {{ python: {interpreter(args.name)} }}"
    )
    if info.runtime == "tensorrt" and not info.gpus:
        print(f"It sees no GPU, and builds only with one: {info.no_gpu}", file=sys.stderr)
    return 0


def _remove(args: Arguments) -> int:
    from enginery.errors import ToolchainError
    from enginery.project.load import load_spec
    from enginery.toolchain.environments import remove

    if args.name in load_spec().toolchains:
        raise ToolchainError(
            f"params.yaml names the toolchain {args.name}", "Take it out there first"
        )
    remove(args.name)
    print(f"removed {args.name}")
    return 0
