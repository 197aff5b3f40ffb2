"""`enginery calibration`: look at a model's calibration, take a cache made elsewhere, write one for
a TensorRT version.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from enginery.cli import add_command, add_group
from enginery.errors import ConfigError, EngineryError
from enginery.project.paths import CACHE, HISTOGRAMS, model_folder

Arguments = argparse.Namespace


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    text = "a model's INT8 calibration: show, import, export"
    actions = add_group(commands, "calibration", text)
    show = _action(
        actions, "show", _show, "a table of tensors: amax, threshold, share of values clipped"
    )
    show.add_argument(
        "--histogram",
        metavar="TENSOR",
        help="draw this tensor's histogram (a part of its name will do)",
    )
    show.add_argument(
        "--out",
        type=Path,
        default=Path("histogram.png"),
        help="the picture (default: histogram.png)",
    )
    imported = _action(
        actions,
        "import",
        _import,
        "check a TensorRT cache made elsewhere and copy it to data/calibration/",
    )
    imported.add_argument(
        "file", type=Path, help="a file of the format that IInt8EntropyCalibrator2 writes"
    )
    export = _action(
        actions,
        "export",
        _export,
        "write the cache for one TensorRT version, which skips those of any other",
    )
    export.add_argument(
        "--tensorrt", required=True, metavar="VERSION", help="for example 8.6.0 or 10.16.1"
    )
    export.add_argument(
        "--out",
        type=Path,
        default=Path("calibration.cache"),
        help="the file (default: calibration.cache)",
    )


def _action(actions: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser = add_command(actions, name, run, text)
    parser.add_argument("model", help="its name in params.yaml")
    return parser


def _show(args: Arguments) -> int:
    from enginery.calibration import cache, state

    folder = _folder(args.model)
    thresholds = cache.read(folder / CACHE).thresholds()
    histograms = state.finished(folder / HISTOGRAMS) if (folder / HISTOGRAMS).is_file() else {}
    if args.histogram:
        from enginery.report.pictures import draw_histogram

        if not histograms:
            raise EngineryError(
                f"{args.model}'s cache was imported: it holds no histograms",
                "Calibrate from images to see them",
            )
        name = _tensor(args.histogram, list(histograms))
        draw_histogram(name, histograms[name], thresholds[name], args.out)
        print(f"{args.out}: {name}")
        return 0
    from enginery.report.calibration import calibration_rows
    from enginery.report.display import print_table

    print_table(f"Calibration of {args.model}", calibration_rows(thresholds, histograms))
    return 0


def _import(args: Arguments) -> int:
    from enginery.calibration import cache
    from enginery.graphs.inspect import read_graph
    from enginery.project.load import load_spec
    from enginery.quantization.placement import place
    from enginery.quantization.rules import patterns

    spec = load_spec()
    if args.model not in spec.models:
        raise ConfigError(
            "calibration import",
            [f"{args.model}: not defined; models has {', '.join(spec.models)}"],
        )
    graph = model_folder(args.model, "simplify") / "model.onnx"
    if not graph.is_file():
        raise EngineryError(
            f"{args.model} was not built yet: there is no graph to compare the cache with",
            "Run `enginery build` first",
        )
    settings = spec.int8.get(args.model)
    excluded = patterns(settings.rule, settings.exclude) if settings else ()
    found, model = cache.read(args.file), read_graph(graph)
    cache.check_tensors(
        found, place(model.graph, excluded).activations(model.graph), args.file.as_posix()
    )
    out = Path("data/calibration") / f"{args.model}{cache.SUFFIX}"
    cache.write(found, out)
    print(
        f"{out}: ranges of {len(found.scales)} tensors. Now set int8.{args.model}.calibration to {out} in params.yaml, "
        "without algorithm, percentile and minimum_images"
    )
    return 0


def _export(args: Arguments) -> int:
    from enginery.calibration import cache

    try:
        version = cache.version_number(args.tensorrt)
    except ValueError:
        raise ConfigError(
            "calibration export",
            [f"--tensorrt {args.tensorrt}: major.minor.patch is expected, as in 8.6.0"],
        ) from None
    found = cache.read(_folder(args.model) / CACHE)
    cache.write(cache.Cache(version, found.scales), args.out)
    print(f"{args.out}: ranges of {len(found.scales)} tensors for TensorRT {args.tensorrt}")
    return 0


def _folder(model: str) -> Path:
    folder = model_folder(model, "calibration")
    if not (folder / CACHE).is_file():
        known = sorted(
            path.parents[1].name
            for path in model_folder("*", "calibration").parents[1].glob(f"*/calibration/{CACHE}")
        )
        raise EngineryError(
            f"{model} has no calibration here",
            f"Calibrated: {', '.join(known) or 'none yet; `enginery build` does it'}",
        )
    return folder


def _tensor(wanted: str, names: list[str]) -> str:
    found = [name for name in names if name == wanted] or [name for name in names if wanted in name]
    if len(found) == 1:
        return found[0]
    several = (
        f"{len(found)} tensors have {wanted!r} in their name: {', '.join(found[:5])}"
        if found
        else f"no tensor is called {wanted!r}"
    )
    raise EngineryError(several, "`enginery calibration show` lists them")
