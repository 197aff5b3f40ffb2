"""`enginery sensitivity`: what INT8 costs layer by layer, and the smallest exclusion that passes
the gate.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from enginery.cli import add_command

_BAR = 24


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(
        commands,
        "sensitivity",
        _run,
        "rank a model's layers by what INT8 in each costs, on real images",
    )
    parser.add_argument("model", help="its name in params.yaml")
    parser.add_argument(
        "--propose",
        action="store_true",
        help="find the fewest layers to keep in float with which INT8 passes",
    )
    parser.add_argument("--top", type=int, default=20, help="how many layers to show (default: 20)")
    parser.add_argument("--json", action="store_true", help="all layers as an array of objects")


def _run(args: argparse.Namespace) -> int:
    from enginery.actions.sensitivity import propose, ranking
    from enginery.project.load import load_spec
    from enginery.report.display import print_table

    spec = load_spec()
    ranked = ranking(spec, args.model)
    if args.json:
        print(json.dumps(ranked, indent=2))
    else:
        print_table(f"What INT8 costs {args.model}, layer by layer", _rows(ranked[: args.top]))
    if not args.propose:
        return 0
    patterns = propose(spec, args.model, ranked)
    if patterns is None:
        print(
            "Not even with every layer in float does it pass: look at the calibration images and the tolerance"
        )
        return 1
    if not patterns:
        print("It passes as it is: nothing more has to stay in float")
        return 0
    print(
        f"It passes with {len(patterns)} more in float. In params.yaml, add to int8.{args.model}:\n    exclude:"
    )
    for pattern in [*spec.int8[args.model].exclude, *patterns]:
        print(f"      - '{pattern}'")
    return 0


def _rows(ranked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    worst = max((layer["cost"] for layer in ranked), default=0) or 1
    return [
        {
            "layer": layer["layer"],
            "error": f"{layer['cost']:.3%}",
            "": "█" * max(1, round(_BAR * layer["cost"] / worst)),
            "kept in": "float" if layer["in_float"] else "",
        }
        for layer in ranked
    ]
