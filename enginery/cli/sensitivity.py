"""`enginery sensitivity`: what INT8 costs layer by layer, and the smallest exclusion that passes
the gate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, ModelArgument, new_app

if TYPE_CHECKING:
    from enginery.actions.sensitivity import RankedLayer

_BAR = 24

app = new_app()


@app.command(cls=Command)
def sensitivity(
    model: ModelArgument,
    search: Annotated[
        bool,
        typer.Option(
            "--propose", help="Find the fewest layers to keep in FP16 with which INT8 passes."
        ),
    ] = False,
    top: Annotated[int, typer.Option(help="How many layers to show.")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all layers as an array of objects.")
    ] = False,
) -> int:
    """Rank a model's layers by what INT8 in each costs, on real images."""
    from enginery.actions.sensitivity import propose, ranking
    from enginery.project.load import load_spec
    from enginery.report.console import print_table

    spec = load_spec()
    ranked = ranking(spec, model)
    if as_json:
        print(json.dumps([asdict(layer) for layer in ranked], indent=2))
    else:
        print_table(f"What INT8 costs {model}, layer by layer", _rows(ranked[:top]))
    if not search:
        return 0
    return _say(model, spec.int8[model].exclude, propose(spec, model, ranked))


def _say(model: str, excluded: Sequence[str], patterns: Sequence[str] | None) -> int:
    """Tell what to add to `exclude`; 1 if nothing helps."""
    if patterns is None:
        cure = "look at the calibration images and the tolerance"
        print(f"Not even with every layer in FP16 does it pass: {cure}")
        return 1
    if not patterns:
        print("It passes as it is: nothing more has to stay in FP16")
        return 0
    print(f"It passes with {len(patterns)} more in FP16. In params.yaml, add to int8.{model}:")
    print("    exclude:")
    for pattern in [*excluded, *patterns]:
        print(f"      - '{pattern}'")
    return 0


def _rows(ranked: Sequence[RankedLayer]) -> list[dict[str, str]]:
    worst = max((layer.cost for layer in ranked), default=0) or 1
    return [
        {
            "layer": layer.layer,
            "error": f"{layer.cost:.3%}",
            "": "█" * max(1, round(_BAR * layer.cost / worst)),
            "kept in": "FP16" if layer.kept_in_fp16 else "",
        }
        for layer in ranked
    ]
