"""export triton: engines of one model as a model repository of Triton, one plan for each compute
capability of the fleet.

    OUT/NAME/config.pbtxt
    OUT/NAME/1/sm89.plan

Triton silently falls back to other plans on a GPU that has none, so no default plan is named. All
engines of a repository need one TensorRT: that of the server.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from enginery.errors import EngineryError
from enginery.project.target import OLDEST_COMPATIBLE
from enginery.project.values import Capability
from enginery.registry.built import Profile
from enginery.registry.store import Engine, check_whole
from enginery.system.files import atomic_folder

CONFIG, VERSION = "config.pbtxt", "1"
_TYPES = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "UINT8": "TYPE_UINT8",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
}
_RUNTIME = "tensorrt"  # which Triton's backend loads


@dataclass(frozen=True)
class Tensor:
    """An input or output: its type and shape as in the graph, -1 where a size is dynamic."""

    name: str
    type: str
    shape: tuple[int, ...]
    channels_last: bool = False  # in memory, whatever the shape says


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def export_triton(
    engines: Sequence[Engine], signature: Signature | None, out: Path, name: str
) -> Path:
    """Write a model's folder into the repository `out`, whole or not at all.

    Without a signature Triton reads inputs and outputs from the plan.

    Raises:
        EngineryError: the engines do not go together, or Triton loads none of this kind.
        IntegrityError: a plan is damaged.
    """
    plans = plans_by_capability(engines)
    for engine in engines:
        check_whole(engine)
    folder = out / name
    with atomic_folder(folder) as partial:
        (partial / VERSION).mkdir()
        for file, engine in {_plan(engine): engine for engine in plans.values()}.items():
            shutil.copyfile(engine.plan, partial / VERSION / file)
        text = config(name, plans, signature)
        (partial / CONFIG).write_text(text, encoding="utf-8")
    return folder


def plans_by_capability(engines: Sequence[Engine]) -> Mapping[str, Engine]:
    """The engine for each compute capability: its own, else one that is for all from Ampere on.

    Raises:
        EngineryError: the engines do not go together, or Triton loads none of this kind.
    """
    _check_together(engines)
    plans: dict[str, Engine] = {}
    for engine in sorted(engines, key=lambda each: each.built.hardware_compatible):
        for capability in _capabilities(engine):
            other = plans.setdefault(capability, engine)
            if other is not engine and not engine.built.hardware_compatible:
                what = f"{other.name} and {engine.name} are both for {capability}"
                cure = "Triton tells GPUs apart by that alone: choose one with --target"
                raise EngineryError(what, cure)
    return dict(sorted(plans.items(), key=lambda item: float(item[0])))


def config(name: str, plans: Mapping[str, Engine], signature: Signature | None) -> str:
    """config.pbtxt: protobuf's text of `inference.ModelConfig`."""
    profile = next(iter(plans.values())).built.image_profile
    dynamic = profile.min[0] != profile.max[0]
    lines = [
        f"name: {_text(name)}",
        'platform: "tensorrt_plan"',
        f"max_batch_size: {profile.max[0] if dynamic else 0}",
        *(_signature(signature, dynamic) if signature else ()),
        *(
            f"cc_model_filenames {{ key: {_text(capability)} value: {_text(_plan(engine))} }}"
            for capability, engine in plans.items()
        ),
        *_batching(profile, dynamic),
        "optimization { cuda { graphs: true } }",
        *(f"metric_tags {{ key: {_text(k)} value: {_text(v)} }}" for k, v in _tags(plans).items()),
    ]
    return "\n".join([*lines, ""])


def _check_together(engines: Sequence[Engine]) -> None:
    first = engines[0]
    for engine in engines:
        if engine.manifest.runtime != _RUNTIME:
            what = f"{engine.name} is of {engine.manifest.runtime}, which Triton does not load"
            raise EngineryError(what, f"Build it for a target of runtime {_RUNTIME}")
        for word, mine, other in (
            ("TensorRT", engine.manifest.runtime_version, first.manifest.runtime_version),
            ("a platform", engine.manifest.platform, first.manifest.platform),
            ("shapes", engine.built.image_profile.text, first.built.image_profile.text),
            ("a model", engine.model, first.model),
        ):
            if mine != other:
                what = f"{first.name} and {engine.name} have {word} of their own: {other}, {mine}"
                raise EngineryError(what, "Export them apart: choose with --target")


def _capabilities(engine: Engine) -> Iterator[str]:
    if engine.built.hardware_compatible:
        yield from (each for each in get_args(Capability) if float(each) >= OLDEST_COMPATIBLE)
    else:
        yield engine.manifest.compute_capability or ""


def _plan(engine: Engine) -> str:
    if engine.built.hardware_compatible:
        return "sm80-and-later.plan"
    return f"sm{(engine.manifest.compute_capability or '').replace('.', '')}.plan"


def _signature(signature: Signature, dynamic: bool) -> Iterator[str]:
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for tensor in tensors:
            sizes = ", ".join(map(str, tensor.shape[1:] if dynamic else tensor.shape))
            described = f"name: {_text(tensor.name)} data_type: {_type(tensor)} dims: [ {sizes} ]"
            described += " is_non_linear_format_io: true" if tensor.channels_last else ""
            yield f"{kind} [ {{ {described} }} ]"


def _type(tensor: Tensor) -> str:
    if tensor.type not in _TYPES:
        what = f"{tensor.name} is of the type {tensor.type}, which this export does not know"
        raise EngineryError(what, f"It knows {', '.join(_TYPES)}")
    return _TYPES[tensor.type]


def _batching(profile: Profile, dynamic: bool) -> Iterator[str]:
    if dynamic:
        yield f"dynamic_batching {{ preferred_batch_size: [ {profile.opt[0]} ] }}"


def _tags(plans: Mapping[str, Engine]) -> Mapping[str, str]:
    """The digest of each plan, for whoever reads Triton's metrics."""
    files = {_plan(engine).removesuffix(".plan"): engine for engine in plans.values()}
    return {
        f"sha256_{file.replace('-', '_')}": engine.manifest.plan.sha256
        for file, engine in files.items()
    }


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
