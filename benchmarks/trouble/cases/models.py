"""Bad models: graphs and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.trouble import models
from benchmarks.trouble.cases.case import Case
from benchmarks.trouble.cases.harm import (
    cut,
    dangling,
    empty,
    endless,
    fifo,
    folder,
    garbage,
    gone,
    looping,
    on,
    overwritten,
    set_own,
)
from benchmarks.trouble.checkouts import Place

GRAPH = "data/own/model.onnx"
WEIGHTS = "data/own/model.pt"
MARK = "a-pickle-ran"
SHORT_LIMIT_S = 8


def weights(
    content: bytes | None = None, damage: Callable[[Path], object] | None = None
) -> Callable[[Place], None]:
    """own comes from a .pt."""

    def harm(place: Place) -> None:
        place.write(
            WEIGHTS,
            content if content is not None else (place.root / "data/good/model.pt").read_bytes(),
        )
        if damage:
            damage(place.root / WEIGHTS)
        set_own(source=WEIGHTS)(place)

    return harm


def commanding(place: Place) -> None:
    """A pickle that runs a command, and would take the environment with it."""
    line = f"env > '{place.folder / MARK}'"
    weights(models.commanding_weights(line))(place)


def networkless(place: Place) -> None:
    """A checkpoint that holds no network."""
    weights(models.networkless_weights())(place)


def nothing_ran(place: Place) -> str:
    """Whether a pickle's command was run."""
    return f"the pickle's command was run ({MARK})" if (place.folder / MARK).exists() else ""


def graph_cases() -> Iterator[Case]:
    def graph(
        name: str, damage: Callable[[Path], object], says: str, row: int = 0, **more: Any
    ) -> Case:
        return Case(f"onnx: {name}", on(GRAPH, damage), says, row, **more)

    this = r"data/own/model\.onnx"
    yield graph("empty", empty, f"{this} is empty")
    yield graph("cut", cut, f"{this} .*(cut off|altered|not valid ONNX)")
    yield graph("overwritten in the middle", overwritten, f"{this}|(?i:nan|not finite)", 6)
    yield graph("text", garbage, f"{this} .*(no ONNX|not valid ONNX)")
    yield graph("missing", gone, this)
    yield graph("a folder", folder, this, 6)
    yield graph("a FIFO", fifo, f"{this}.*(plain file|regular file|FIFO|pipe)", 7)
    yield graph("a link to nothing", dangling, this, 6)
    yield graph("a link to itself", looping, f"{this}.*", 6)
    yield graph("a link to /dev/zero", endless, f"{this}.*(plain file|regular file|device)", 7)
    yield graph("opset 99", models.edited(models.newer_opset), f"{this} has opset 99")
    yield graph("float64 input", models.edited(models.float64_input), f"{this}.*float64")
    yield graph("unknown operator", models.edited(models.unknown_operator), f"{this}.*Fancy")
    yield graph(
        "operator of a foreign domain",
        models.edited(models.foreign_operator),
        f"{this}.*(Fancy|com\\.example)",
        6,
    )
    yield graph(
        "nameless operator", models.edited(models.nameless_operator), f"{this}.*operator", 6
    )
    yield graph(
        "two inputs",
        models.edited(models.second_input),
        f"{this}.*(2|two|second|more than one|one) .*input",
        6,
    )
    yield graph(
        "input of one axis",
        models.edited(models.flat_input),
        f"{this}.*(input|axis|sizes|shape)",
        6,
    )
    yield graph(
        "NaN weights", models.edited(models.nan_weights), "(?i)(nan|not finite|no number)", 6
    )
    yield graph(
        "infinite weights", models.edited(models.infinite_weights), "(?i)(inf|not finite)", 6
    )
    yield graph("external data missing", models.external_missing, r"weights\.bin", 7)
    yield graph("external data cut", models.external_cut, r"weights\.bin", 7)
    yield graph("external data outside of its folder", models.external_outside, r"weights\.bin", 7)
    yield graph(
        "external data beside it works",
        models.external,
        "",
        7,
        after="same plans",
        code=0,
        limit_s=60,
    )
    yield graph("no outputs", models.edited(models.without_outputs), f"{this}.*output", 6)
    yield graph("a circle", models.edited(models.in_circles), f"{this} is not valid ONNX")
    yield graph("weights of a terabyte", models.edited(models.huge_weights), this)
    yield graph("deep metadata", models.edited(models.nested), f"{this}.*metadata", 7)
    yield graph(
        "names not numbered from 0",
        models.edited(models.metadata("names", "{1: 'a', 2: 'b'}")),
        f"{this}.*names",
    )
    yield graph(
        "names that are text", models.edited(models.metadata("names", "a, b")), f"{this}.*names"
    )
    yield graph(
        "a stride of 0", models.edited(models.metadata("stride", "0")), f"{this}.*stride", 6
    )
    yield graph(
        "another task",
        models.edited(models.metadata("task", "segment")),
        "is a segment model, not detect",
    )
    endless_loop = on(GRAPH, models.edited(models.loop(1 << 40)))

    def limited(place: Place) -> None:
        endless_loop(place)
        limits = dict.fromkeys(("export", "simplify"), SHORT_LIMIT_S)
        place.change(lambda params: params.update(time_limit_s=limits))

    yield Case("onnx: a loop of 2^40 turns", limited, "(?i)time limit", 7, limit_s=40)
    yield Case("onnx: not the size of params.yaml", set_own(height=128), r"own.*(fixed size|96)", 6)
    yield Case(
        "onnx: an opset that it does not use",
        set_own(opset=17),
        r"models\.own\.opset",
        14,
        after="nothing",
    )
    yield Case(
        "onnx: a source that is a .txt",
        set_own(source="data/own/model.txt"),
        r"models\.own\.source",
        after="nothing",
    )


def weight_cases() -> Iterator[Case]:
    this = r"data/own/model\.pt"
    yield Case("pt: cut", weights(damage=cut), this)
    yield Case("pt: empty", weights(b""), this)
    yield Case("pt: text", weights(b"no model"), this)
    yield Case("pt: missing", weights(damage=gone), this)
    yield Case("pt: a folder", weights(damage=folder), this, 6)
    yield Case(
        "pt: a FIFO", weights(damage=fifo), f"{this}.*(plain file|regular file|FIFO|pipe)", 7
    )
    yield Case("pt: tensors without a network", networkless, this)
    yield Case("pt: a pickle that runs a command", commanding, f"{this}.*", 2, check=nothing_ran)

    def of_another_task(place: Place) -> None:
        weights()(place)
        set_own(task="segment")(place)

    def of_another_digest(place: Place) -> None:
        weights()(place)
        set_own(sha256="0" * 64)(place)

    yield Case(
        "pt: of another task",
        of_another_task,
        f"({this} is a detect model, not segment|labels/.*is not)",
    )
    yield Case(
        "pt: not the sha256 of params.yaml", of_another_digest, f"{this}.*(?i:sha256|digest)", 2
    )
