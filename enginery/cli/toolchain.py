"""`enginery toolchain`: the interpreters with a TensorRT in them that targets name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, new_app
from enginery.errors import ToolchainError

app = new_app("Interpreters with one TensorRT each: list, check, add, remove.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What params.yaml calls it.")]
_EXAMPLES = (
    "For example tensorrt-rtx-cu13==1.7.1.116; or tensorrt==10.16.1.11 numpy pycuda "
    "(with CUDA's compiler at hand)."
)


@app.command("list", cls=Command)
def list_() -> int:
    """What every toolchain of params.yaml is."""
    from enginery.project.load import load_spec
    from enginery.report.console import print_table
    from enginery.toolchain.selection import Toolchains

    known = Toolchains(load_spec()).known
    print_table("Toolchains", [_row(name, python) for name, python in known.items()])
    return 0


@app.command(cls=Command)
def check(
    toolchain: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A name that `list` shows, or an interpreter's path."),
    ],
) -> int:
    """Probe one interpreter and say what it can do."""
    from dataclasses import asdict

    from enginery.project.load import load_spec
    from enginery.system.files import dumps
    from enginery.toolchain.environments import identify
    from enginery.toolchain.selection import Toolchains

    known = Toolchains(load_spec()).known
    python = known.get(toolchain, Path(toolchain))
    if not python.exists() and toolchain not in known:
        what = f"{toolchain!r} is neither a toolchain of params.yaml nor an interpreter's path"
        raise ToolchainError(what, f"Toolchains: {', '.join(known)}")
    print(dumps({"interpreter": python.as_posix(), **asdict(identify(python))}), end="")
    return 0


@app.command(cls=Command)
def add(
    name: NameArgument,
    packages: Annotated[list[str], typer.Argument(metavar="PACKAGE...", help=_EXAMPLES)],
    python: Annotated[
        str,
        typer.Option(help="The interpreter to make it with.", show_default="this one"),
    ] = sys.executable,
) -> int:
    """Make one below .toolchains/ from the package index."""
    from enginery import runtimes
    from enginery.toolchain.environments import interpreter, make

    info = make(name, packages, python)
    print(f"{info.runtime} {info.version} works. In params.yaml:")
    print(f"toolchains:\n  {name}: {{ python: {interpreter(name)} }}")
    if runtimes.find(info.runtime).on_own_gpu and not info.gpus:
        print(f"It sees no GPU, and builds only with one: {info.no_gpu}", file=sys.stderr)
    return 0


@app.command(cls=Command)
def remove(name: NameArgument) -> int:
    """Delete one made with add."""
    from enginery.project.load import load_spec
    from enginery.toolchain import environments

    if name in load_spec().toolchains:
        raise ToolchainError(f"params.yaml names the toolchain {name}", "Take it out there first")
    environments.remove(name)
    print(f"removed {name}")
    return 0


def _row(name: str, python: Path) -> dict[str, object]:
    from enginery.toolchain.environments import identify

    try:
        info = identify(python)
    except ToolchainError as error:
        works, gpus = f"does not work: {error.what}", "-"
    else:
        works = f"{info.runtime} {info.version}"
        gpus = ", ".join(gpu["gpu"] for gpu in info.gpus) or "-"
    return {"toolchain": name, "TensorRT": works, "GPU": gpus, "python": python}
