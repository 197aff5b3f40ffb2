"""ONNX graphs read and checked before TensorRT sees them: it accepts empty, altered and float64
graphs without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from enginery.errors import ModelError
from enginery.graphs import external

KEPT = (
    "names",
    "stride",
    "task",
    "kpt_shape",
)  # a graph's metadata that later steps and Ultralytics read
_RUNTIME_DOMAINS = ("com.microsoft", "ai.onnx.ml")  # of operators that ONNX Runtime adds


@dataclass(frozen=True)
class TensorInfo:
    """A graph's input or output: a size is a number, or the name of a dynamic one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def is_static(self) -> bool:
        """Whether every size is a number."""
        return all(isinstance(size, int) for size in self.shape)


@dataclass(frozen=True)
class GraphInfo:
    """What a graph takes and gives; `stride` is what its metadata says that H/W must be multiples
    of.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opset: int
    nodes: int
    stride: int | None = None


@dataclass(frozen=True)
class Profile:
    """An input's shape at min, opt and max."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


def read_graph(path: Path, called: Path | None = None) -> onnx.ModelProto:
    """Read an ONNX file that ONNX's own checker accepts; of a copy, errors name what it is
    `called`.

    The weights of a graph above `external.LARGEST` stay on the disk: `external.values` reads them.

    Raises:
        ModelError: the file is missing, empty, truncated or altered, or too new; an operator is
        unknown; an input is float64.
    """
    name = called or path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror}", "Correct the path in params.yaml") from None
    if not data:
        raise ModelError(f"{name} is empty", "Export the model again")
    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        raise ModelError(
            f"{name} is no ONNX file, or was cut off or altered", "Copy or export it again"
        ) from None
    del data  # up to 2 GB
    external.load(model, path.parent, name)
    _check(model, name)
    return model


def _check(model: onnx.ModelProto, path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            raise ModelError(
                f"{path} has opset {entry.version}, {newest} is the newest that onnx knows",
                "Export it with an older opset",
            )
    own = {function.domain for function in model.functions}
    unknown = sorted(
        {
            _described(node)
            for node in model.graph.node
            if not (node.domain in own or _is_known(node))
        }
    )
    if unknown:
        raise ModelError(
            f"{path} has operators that are not part of ONNX: {', '.join(unknown)}",
            "Replace them in the model",
        )
    try:
        onnx.checker.check_model(external.without_weights(model), full_check=True)
    except Exception as error:  # the checker and shape inference raise several kinds
        raise ModelError(
            f"{path} is not valid ONNX: {_one_line(error)}", "Export it again"
        ) from None
    for tensor in info_of(model).inputs:
        if tensor.dtype == "DOUBLE":
            raise ModelError(
                f"{path}: input {tensor.name} is float64, which TensorRT does not run",
                "Export it with float32 inputs",
            )


def _is_known(node: onnx.NodeProto) -> bool:
    if node.domain in _RUNTIME_DOMAINS:
        return True
    return node.domain in ("", "ai.onnx") and bool(onnx.defs.has(node.op_type))


def _described(node: onnx.NodeProto) -> str:
    domain = f"{node.domain}." if node.domain else ""
    name = next(filter(None, [node.name, *node.output, *node.input]), "without a name")
    return f"{domain}{node.op_type or 'an empty operator'} (node {name})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def graph_info(path: Path) -> GraphInfo:
    """What a checked graph takes and gives."""
    return info_of(read_graph(path))


def info_of(model: onnx.ModelProto) -> GraphInfo:
    """What a graph takes and gives."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor(value) for value in model.graph.input if value.name not in weights)
    outputs = tuple(map(_tensor, model.graph.output))
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    stride = next((entry.value for entry in model.metadata_props if entry.key == "stride"), "")
    return GraphInfo(
        inputs, outputs, opset, len(model.graph.node), int(stride) if stride.isdecimal() else None
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.tensor_type
    shape = tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param or "?"
        for size in kind.shape.dim
    )
    return TensorInfo(value.name, TensorProto.DataType.Name(kind.elem_type), shape)


def has_own_quantization(graph: onnx.GraphProto) -> bool:
    """Whether the graph has Q/DQ nodes, as quantization-aware training leaves them."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node)


def check_profile(info: GraphInfo, profile: Mapping[str, Profile]) -> list[str]:
    """What does not fit between a graph and its optimization profile, in words."""
    inputs = {tensor.name: tensor for tensor in info.inputs}
    mistakes = [
        f"no input is called {name!r}, the graph has {', '.join(inputs)}"
        for name in profile
        if name not in inputs
    ]
    for name, shapes in profile.items():
        if name in inputs:
            mistakes += [
                f"{name}: {mistake}"
                for mistake in _misfits(inputs[name].shape, shapes, info.stride)
            ]
    return mistakes


def fit_profiles(
    info: GraphInfo,
    profiles: Iterable[Mapping[str, Sequence[int]]],
    given: str | None,
    called: str,
    arrays: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
) -> str:
    """The name of a graph's image input, `given` or the one with four axes, which all these
    profiles fit, as those of `arrays`, if they are given, fit its other inputs; errors name what it
    is `called`.

    Raises:
        ModelError: the graph has no such input, or other sizes, or open ones without a profile.
    """
    name = given or image_input(info)
    known = [{name: _profile(shapes)} for shapes in profiles]
    others = {other: _profile(shapes) for other, shapes in (arrays or {}).items()}
    mistakes = [mistake for each in (*known, others) for mistake in check_profile(info, each)]
    mistakes = mistakes or [
        f"{tensor.name} has open sizes, {list(tensor.shape)}: give them as `shapes` of the model"
        for tensor in info.inputs
        if arrays is not None
        and not tensor.is_static
        and tensor.name not in {*others, *([name] if known else [])}
    ]
    if mistakes:
        cure = "Correct batch, height, width, profiles or input of the model in params.yaml"
        raise ModelError(
            f"{called}: the profile does not fit: {'; '.join(dict.fromkeys(mistakes))}", cure
        )
    return name


def image_input(info: GraphInfo) -> str:
    """The input that takes images where nobody says which: the only one with four axes, else the
    first.
    """
    with_four = [tensor.name for tensor in info.inputs if len(tensor.shape) == 4]
    return with_four[0] if len(with_four) == 1 else info.inputs[0].name


def _profile(shapes: Mapping[str, Sequence[int]]) -> Profile:
    return Profile(**{which: tuple(sizes) for which, sizes in shapes.items()})


def _misfits(shape: tuple[int | str, ...], profile: Profile, stride: int | None) -> Iterator[str]:
    if any(len(sizes) != len(shape) for sizes in (profile.min, profile.opt, profile.max)):
        yield f"{len(shape)} sizes are expected, {list(shape)}"
        return
    for axis, (size, *extent) in enumerate(
        zip(shape, profile.min, profile.opt, profile.max, strict=True)
    ):
        yield from _axis_misfits(axis, size, extent, stride if axis >= 2 else None)


def _axis_misfits(
    axis: int, size: int | str, extent: list[int], stride: int | None
) -> Iterator[str]:
    low, opt, high = extent
    what = f"axis {axis}"
    if low < 1:
        yield f"{what}: {low} is below 1"
    if not low <= opt <= high:
        yield f"{what}: min <= opt <= max must hold, not {extent}"
    if isinstance(size, int) and set(extent) != {size}:
        yield f"{what}: the graph has the fixed size {size}, the profile {extent}"
    if stride and any(value % stride for value in extent):
        yield f"{what}: {extent} must be multiples of the stride, {stride}"


def strip_metadata(
    model: onnx.ModelProto, keep: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """Remove what changes from run to run (dates, tool stamps, paths); `keep` is the metadata that
    stays.
    """
    del model.metadata_props[:]
    for key, value in sorted((keep or {}).items()):
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version, model.doc_string = "enginery", "", ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return model
