"""`enginery export`: engines as other software loads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, EngineArgument, RegistryOption, new_app
from enginery.cli.completion import complete_model, complete_precision, complete_target

if TYPE_CHECKING:
    from enginery.registry.store import Engine

app = new_app("Engines as other software loads them: Triton, DeepStream, Isaac ROS, Ultralytics.")


@app.command(cls=Command)
def triton(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Whose engines.", autocompletion=complete_model)
    ],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or int8.", autocompletion=complete_precision)
    ] = "fp16",
    target: Annotated[
        list[str] | None,
        typer.Option(help="Only for this target; may be repeated.", autocompletion=complete_target),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Those of the team's registry that serve in it."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The model repository.")] = Path(
        "triton"
    ),
    registry: RegistryOption = None,
) -> int:
    """A model repository of Triton: one plan for each compute capability."""
    from enginery.actions.export_triton import export_triton
    from enginery.actions.signature import read_signature

    with _engines(model, precision, target or (), state, registry, out) as engines:
        signature = read_signature(engines)
        folder = export_triton(engines, signature, out, f"{model}-{precision}")
        names = ", ".join(engine.name for engine in engines)
        runtime = f"TensorRT {engines[0].manifest.runtime_version}"
        print(f"{folder}: {names} for a Triton with {runtime}")
        if signature is None:
            print("The graph is not here: Triton reads inputs and outputs from the plans.")
        if any(engine.built.version_compatible for engine in engines):
            print("Start Triton with --backend-config=tensorrt,version-compatible=true.")
    return 0


@app.command(cls=Command)
def deepstream(
    engine: EngineArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Default: deepstream/MODEL-TARGET-PRECISION."),
    ] = None,
) -> int:
    """A plan with the configuration of DeepStream's nvinfer, labels and INT8 ranges."""
    from enginery.actions.export_deepstream import export_deepstream
    from enginery.registry.store import find

    exported = find(engine)
    folder = out or Path("deepstream") / exported.name.replace("/", "-")
    path = export_deepstream(exported, folder)
    print(f"{path}: {exported.name}; its raw outputs are attached to each frame")
    return 0


@app.command(cls=Command)
def isaac_ros(
    engine: EngineArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where it will stay (default: isaac-ros/MODEL-TARGET-PRECISION).",
        ),
    ] = None,
) -> int:
    """A plan with the parameters of Isaac ROS' TensorRTNode and of its image encoder."""
    from enginery.actions.export_isaac_ros import export_isaac_ros
    from enginery.actions.signature import read_signature
    from enginery.registry.store import find

    exported = find(engine)
    folder = out or Path("isaac-ros") / exported.name.replace("/", "-")
    path = export_isaac_ros(exported, read_signature([exported]), folder)
    runtime = f"TensorRT {exported.manifest.runtime_version}"
    print(f"{path}: {exported.name} for an Isaac ROS with {runtime}")
    return 0


@app.command(cls=Command)
def ultralytics(
    engine: EngineArgument,
    out: Annotated[
        Path | None, typer.Option(help="The file (default: MODEL-TARGET-PRECISION.engine).")
    ] = None,
) -> int:
    """Write an engine as YOLO("x.engine") loads it."""
    from enginery.actions.export_ultralytics import export_ultralytics as write
    from enginery.registry.store import find

    exported = find(engine)
    path = out or Path(f"{exported.name.replace('/', '-')}.engine")
    write(exported, path)
    manifest = exported.manifest
    print(f"{path}: {exported.name} for {manifest.runtime} {manifest.runtime_version}")
    return 0


@contextmanager
def _engines(
    model: str,
    precision: str,
    targets: Sequence[str],
    stage: str | None,
    location: str | None,
    out: Path,
) -> Iterator[list[Engine]]:
    """This machine's engines of a model, or those that serve in a stage of the team's registry."""
    from enginery.actions.pull import served_engines
    from enginery.errors import EngineryError
    from enginery.project.load import team_settings
    from enginery.registries import open_registry
    from enginery.registry.store import engines
    from enginery.system.files import scratch

    if stage is None:
        chosen = [each for each in engines() if (each.model, each.precision) == (model, precision)]
        if chosen := [each for each in chosen if not targets or each.target in targets]:
            yield chosen
            return
        raise EngineryError(f"no engine of {model} {precision} is registered", "`enginery list`")
    settings = team_settings(location)
    with scratch(out) as folder:
        registry = open_registry(settings)
        served = served_engines(registry, model, precision, stage, settings, folder)
        if chosen := [each for each in served if not targets or each.target in targets]:
            yield chosen
            return
        what = f"no engine of {model} {precision} serves in {stage} in {registry.location}"
        raise EngineryError(what, "`enginery published MODEL` shows what does")
