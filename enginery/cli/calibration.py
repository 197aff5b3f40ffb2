"""`enginery calibration`: look at a model's calibration, take a cache made elsewhere, write one for
a TensorRT version.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, ModelArgument, new_app
from enginery.errors import ConfigError, EngineryError

if TYPE_CHECKING:
    from enginery.calibration.cache import Cache

app = new_app("A model's INT8 calibration: show, import, export.")


@app.command(cls=Command)
def show(
    model: ModelArgument,
    histogram: Annotated[
        str | None,
        typer.Option(
            metavar="TENSOR",
            help="Draw this tensor's histogram (a part of its name will do).",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("histogram.png"),
) -> int:
    """A table of tensors: amax, threshold, share of values clipped."""
    from enginery.calibration import cache, state
    from enginery.project.paths import CACHE, HISTOGRAMS
    from enginery.report.calibration import calibration_rows
    from enginery.report.console import print_table

    folder = _folder(model)
    thresholds = cache.read(folder / CACHE).thresholds()
    histograms = state.finished(folder / HISTOGRAMS) if (folder / HISTOGRAMS).is_file() else {}
    if not histogram:
        print_table(f"Calibration of {model}", calibration_rows(thresholds, histograms))
        return 0
    from enginery.report.pictures import draw_histogram

    if not histograms:
        raise EngineryError(
            f"{model}'s cache was imported: it holds no histograms",
            "Calibrate from images to see them",
        )
    name = _tensor(histogram, list(histograms))
    draw_histogram(name, histograms[name], thresholds[name], out)
    print(f"{out}: {name}")
    return 0


@app.command("import", cls=Command)
def import_(
    model: ModelArgument,
    file: Annotated[
        Path, typer.Argument(help="A file of the format that IInt8EntropyCalibrator2 writes.")
    ],
) -> int:
    """Check a TensorRT cache made elsewhere and copy it to data/calibration/."""
    from enginery.calibration import cache

    ranges = cache.read(file)
    _check_tensors(model, file, ranges)
    out = Path("data/calibration") / f"{model}{cache.SUFFIX}"
    cache.write(ranges, out)
    print(
        f"{out}: ranges of {len(ranges.scales)} tensors. Now set int8.{model}.calibration "
        f"to {out} in params.yaml, without algorithm, percentile and minimum_images"
    )
    return 0


@app.command(cls=Command)
def export(
    model: ModelArgument,
    tensorrt: Annotated[str, typer.Option(metavar="VERSION", help="As in 8.6.0 or 10.16.1.")],
    out: Annotated[Path, typer.Option(help="The file.")] = Path("calibration.cache"),
) -> int:
    """Write the cache for one TensorRT version, which skips those of any other."""
    from enginery.calibration import cache
    from enginery.project.paths import CACHE

    try:
        version = cache.version_number(tensorrt)
    except ValueError:
        mistake = f"--tensorrt {tensorrt}: major.minor.patch is expected, as in 8.6.0"
        raise ConfigError("calibration export", [mistake]) from None
    ranges = cache.read(_folder(model) / CACHE)
    cache.write(cache.Cache(version, ranges.scales), out)
    print(f"{out}: ranges of {len(ranges.scales)} tensors for TensorRT {tensorrt}")
    return 0


def _check_tensors(model: str, file: Path, ranges: Cache) -> None:
    """Make sure that a cache has a range for every tensor of a model's graph."""
    from enginery.calibration import cache
    from enginery.graphs.inspect import read_graph
    from enginery.project.load import load_spec
    from enginery.project.paths import model_folder
    from enginery.quantization.placement import place
    from enginery.quantization.rules import patterns

    spec = load_spec()
    if model not in spec.models:
        mistake = f"{model}: not defined; models has {', '.join(spec.models)}"
        raise ConfigError("calibration import", [mistake])
    path = model_folder(model, "simplify") / "model.onnx"
    if not path.is_file():
        raise EngineryError(
            f"{model} was not built yet: there is no graph to compare the cache with",
            "Run `enginery build` first",
        )
    settings = spec.int8.get(model)
    excluded = patterns(settings.rule, settings.exclude) if settings else ()
    graph = read_graph(path).graph
    cache.check_tensors(ranges, place(graph, excluded).activations(graph), file.as_posix())


def _folder(model: str) -> Path:
    from enginery.project.paths import CACHE, model_folder

    folder = model_folder(model, "calibration")
    if not (folder / CACHE).is_file():
        models = model_folder("*", "calibration").parents[1]
        calibrated = sorted(path.parents[1].name for path in models.glob(f"*/calibration/{CACHE}"))
        raise EngineryError(
            f"{model} has no calibration here",
            f"Calibrated: {', '.join(calibrated) or 'none yet; `enginery build` does it'}",
        )
    return folder


def _tensor(part: str, names: list[str]) -> str:
    """The tensor of this name, or the only one with it in its name."""
    fitting = [name for name in names if name == part] or [name for name in names if part in name]
    if len(fitting) == 1:
        return fitting[0]
    some = f"{len(fitting)} tensors have {part!r} in their name: {', '.join(fitting[:5])}"
    raise EngineryError(
        some if fitting else f"no tensor is called {part!r}",
        "`enginery calibration show` lists them",
    )
