"""Where an engine's time goes by kind of layer, and what stands out, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from enginery.report.layers import LayerProfile, profile_layers
from enginery.toolchain.precisions import narrowest
from enginery.toolchain.requests import Inspection

_WORTH_TELLING = 0.05  # of the time
_LONG_LAYER = 0.25  # of the time, in one layer
_ALIGNED = {"fp16": 8, "int8": 16}  # channels that a Tensor Core takes at once
_REFORMAT = re.compile("reformat|reorder", re.IGNORECASE)


@dataclass(frozen=True)
class KindTime:
    """Layers of one kind: how many, milliseconds of a run, and the share of it."""

    kind: str
    layers: int
    milliseconds: float
    share: float


@dataclass(frozen=True)
class LayerSummary:
    """An engine's time by kind of layer, what only changes layout or datatype, and hints."""

    kinds: tuple[KindTime, ...]
    reformats: KindTime
    casts: KindTime
    hints: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each kind, for people."""
        return [
            {
                "kind": each.kind,
                "layers": each.layers,
                "time": f"{each.milliseconds:.3f} ms",
                "share": f"{each.share:.1%}",
            }
            for each in self.kinds
        ]


@dataclass(frozen=True)
class _Layer:
    """A layer's time with what the inspector tells of it."""

    profile: LayerProfile
    content: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.content.get("ParameterType") or self.profile.kind or "unknown")

    @property
    def is_reformat(self) -> bool:
        return bool(_REFORMAT.search(self.kind))

    @property
    def is_cast(self) -> bool:
        """Whether it only changes the datatype, whatever it does to the layout."""
        reads, writes = self.datatypes
        return (self.is_reformat or self.kind.lower() == "cast") and reads != writes

    @property
    def datatypes(self) -> tuple[str, str]:
        """What its first input and its first output are."""
        return self._datatype("Inputs"), self._datatype("Outputs")

    @property
    def channels(self) -> tuple[int, ...]:
        """Those of its first input and output, where both have four axes."""
        shapes = [self._first(end).get("Dimensions") or [] for end in ("Inputs", "Outputs")]
        fits = all(len(shape) == 4 for shape in shapes)
        return tuple(shape[1] for shape in shapes) if fits else ()

    def _datatype(self, end: str) -> str:
        return narrowest([str(self._first(end).get("Format/Datatype", ""))])

    def _first(self, end: str) -> Mapping[str, Any]:
        for tensor in self.content.get(end) or ():
            return tensor if isinstance(tensor, Mapping) else {}
        return {}


def summarize(inspection: Inspection, precision: str) -> LayerSummary:
    """Sum up the layers of an engine of this precision."""
    contents = (each if isinstance(each, Mapping) else {} for each in inspection.layers)
    layers = [_Layer(*pair) for pair in zip(profile_layers(inspection), contents, strict=True)]
    reformats = _sum("reformat", [layer for layer in layers if layer.is_reformat])
    casts = _sum("cast", [layer for layer in layers if layer.is_cast])
    hints = (
        *_of_names(inspection),
        *_of_reformats(reformats, casts),
        *_of_precision(layers, precision),
        *_of_ends(layers),
        *_of_channels(layers),
        *_of_one_layer(layers),
    )
    return LayerSummary(tuple(_by_kind(layers)), reformats, casts, tuple(hints))


def _by_kind(layers: Sequence[_Layer]) -> list[KindTime]:
    kinds = dict.fromkeys(layer.kind for layer in layers)
    sums = [_sum(kind, [layer for layer in layers if layer.kind == kind]) for kind in kinds]
    return sorted(sums, key=lambda each: -each.milliseconds)


def _sum(kind: str, layers: Sequence[_Layer]) -> KindTime:
    return KindTime(
        kind,
        len(layers),
        sum(layer.profile.milliseconds for layer in layers),
        sum(layer.profile.share for layer in layers),
    )


def _of_names(inspection: Inspection) -> Iterator[str]:
    if inspection.layers and all(isinstance(layer, str) for layer in inspection.layers):
        yield (
            "TensorRT tells only the names of this engine's layers: it was built without detailed "
            "profiling"
        )


def _of_reformats(reformats: KindTime, casts: KindTime) -> Iterator[str]:
    if reformats.share >= _WORTH_TELLING:
        yield (
            f"{reformats.layers} layers only change layout or datatype: "
            f"{reformats.milliseconds:.3f} ms, {reformats.share:.1%} of the time"
        )
    if casts.share >= _WORTH_TELLING:
        yield (
            f"{casts.layers} layers only change the datatype: {casts.milliseconds:.3f} ms, "
            f"{casts.share:.1%} of the time. Layers that alternate between precisions need them: "
            "look at `exclude` and `fp32_layers`"
        )


def _of_precision(layers: Sequence[_Layer], precision: str) -> Iterator[str]:
    """What runs wider than was asked for, by kind."""
    wider = {"int8": ("fp16", "fp32"), "fp16": ("fp32",)}.get(precision, ())
    for width in wider:
        others = [
            layer for layer in layers if layer.profile.precision == width and not layer.is_reformat
        ]
        total = _sum(width, others)
        if total.share >= _WORTH_TELLING:
            longest = max(others, key=lambda layer: layer.profile.milliseconds)
            yield (
                f"{total.layers} layers of this {precision.upper()} engine read "
                f"{width.upper()}: {total.milliseconds:.3f} ms, {total.share:.1%} of the time; the "
                f"longest is {longest.profile.name} ({longest.kind})"
            )


def _of_ends(layers: Sequence[_Layer]) -> Iterator[str]:
    """Convolutions that compute in INT8 and write something wider."""
    wide = [
        layer
        for layer in layers
        if "conv" in layer.kind.lower()
        and layer.datatypes[0] == "int8"
        and layer.datatypes[1] not in ("int8", "other")
    ]
    total = _sum("", wide)
    if total.share >= _WORTH_TELLING:
        yield (
            f"{total.layers} convolutions read INT8 and write FP16 or FP32 ({total.share:.1%} of "
            f"the time), {wide[0].profile.name} for one: what reads them is not in INT8"
        )


def _of_channels(layers: Sequence[_Layer]) -> Iterator[str]:
    """Convolutions whose channels leave a Tensor Core in part unused."""
    for precision, step in _ALIGNED.items():
        uneven = [
            layer
            for layer in layers
            if "conv" in layer.kind.lower()
            and layer.profile.precision == precision
            and any(channels % step for channels in layer.channels)
        ]
        total = _sum("", uneven)
        if total.share >= _WORTH_TELLING:
            yield (
                f"{total.layers} {precision.upper()} convolutions have channels that are no "
                f"multiple of {step} ({total.share:.1%} of the time), {uneven[0].profile.name} for "
                "one: Tensor Cores fill the rest with zeros"
            )


def _of_one_layer(layers: Sequence[_Layer]) -> Iterator[str]:
    longest = max(layers, key=lambda layer: layer.profile.milliseconds, default=None)
    if longest and longest.profile.share >= _LONG_LAYER and len(layers) > 1:
        yield f"{longest.profile.name} alone takes {longest.profile.share:.1%} of the time"
