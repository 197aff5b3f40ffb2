"""`enginery predict`: an engine's detections drawn into pictures, with what each part took."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from enginery.cli import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(
        commands,
        "predict",
        _run,
        "run an engine on images: pictures of what it finds, and milliseconds",
    )
    parser.add_argument("engine", help="model/target/precision, or a part of it")
    parser.add_argument("image", nargs="+", type=Path, help="images, or folders of images")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        help="the folder for the pictures (default: predictions)",
    )
    parser.add_argument(
        "--confidence", type=float, default=0.25, help="the least to show (default: 0.25)"
    )
    parser.add_argument(
        "--iou", type=float, default=0.7, help="the overlap from which two are one (default: 0.7)"
    )


def _run(args: argparse.Namespace) -> int:
    from enginery.actions.predict import Wanted, predict
    from enginery.project.load import load_spec
    from enginery.registry.store import find

    for line in predict(
        load_spec(),
        find(args.engine),
        Wanted(tuple(args.image), args.out, args.confidence, args.iou),
    ):
        print(line)
    return 0
