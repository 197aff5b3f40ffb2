"""torchvision's networks by their name, with weights from a file: classification and semantic
segmentation. The file is a state dict, which loads without running code.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.errors import ModelError
from enginery.sources.interface import Suggestion

if TYPE_CHECKING:
    from enginery.sources.export import ExportSettings

_NESTED = ("model", "state_dict", "model_ema")  # where training scripts keep a state dict
_WRAPPED = re.compile(r"module(\.|$)")
_IMAGENET = 1000
_INPUT, _OUTPUT = "images", "output"
_TASKS = {"segmentation": "semantic"}  # by the module of torchvision.models; others classify
_OTHERS = ("detection", "video", "optical_flow", "quantization")


class TorchvisionWeights:
    """See `enginery.sources.interface.Source`."""

    suffix, tools = ".pth", ("torchvision", "torch", "onnx")
    has_own_sizes, runs_code, has_architectures = False, False, True
    preprocess: str | None = "torchvision"

    def stride(self, task: str) -> int:
        """They take any size."""
        return 1

    def data(self, source: Path) -> Mapping[str, str]:
        """Weights are one file."""
        return {}

    def suggest(self, source: Path, architecture: str | None) -> Suggestion:
        """What torchvision's own weights of the network were trained with."""
        name = architecture or _guessed(source)
        _check_name(name, source)
        weights = next(iter(_models().get_model_weights(name)), None)
        task = _task(name)
        if weights is None:
            return Suggestion(task, architecture=name, preprocess="imagenet")
        count = _classes(_read(source, source))
        size, preprocess = _transforms(weights.transforms())
        is_imagenet = count == _IMAGENET and task == "classify"
        return Suggestion(task, (size, size), preprocess, name, has_names=is_imagenet)

    def export(self, source: Path, settings: ExportSettings, out: Path) -> dict[str, Any]:
        """Load the weights and trace the network."""
        from enginery.graphs.inspect import read_graph
        from enginery.sources.export import (
            check_is_file,
            copy_source,
            facts_of,
            names_of,
            written,
        )
        from enginery.system.files import sha256, temporary_folder

        check_is_file(source)
        name = settings.architecture or _guessed(source)
        _check_name(name, source)
        if settings.task != _task(name):
            what = f"{source} is a {_task(name)} model, not {settings.task}"
            raise ModelError(what, "Correct the model's task in params.yaml")
        with temporary_folder() as folder:
            copied = copy_source(source, folder, settings)
            state = _read(copied, source)
            network = _network(name, state, source)
            graph = folder / "graph.onnx"
            _trace(network, settings, graph, source)
            classes = _classes(state)
            own = dict(enumerate(_names(name, classes)))
            names = names_of(source, settings, own, classes)
            facts = facts_of(settings, names, 1)
            kept = {"task": settings.task, "names": str(names)}
            results = written(read_graph(graph), out, facts, kept, source)
            return {"source_sha256": sha256(copied), "architecture": name, **results}


def _models() -> Any:
    from enginery.sources.ultralytics_compat import import_torchvision

    return import_torchvision().models


def _check_name(name: str, source: Path) -> None:
    """Refuse networks that torchvision does not have, and those that no task here judges."""
    known = _models().list_models()
    if name not in known:
        what = f"{source}: torchvision has no network {name!r}"
        raise ModelError(what, "Name one as `architecture`: resnet18, vit_b_16, swin_t ...")
    kind = _module(name)
    if kind in _OTHERS:
        what = f"{name} is one of torchvision's {kind} models, and their exports differ"
        raise ModelError(what, "Export it to ONNX as you serve it, and set `task: tensors`")


def _module(name: str) -> str:
    """Where torchvision has a network: segmentation, detection ..."""
    parts = _models().get_model_builder(name).__module__.split(".")
    return str(parts[2])


def _task(name: str) -> str:
    return _TASKS.get(_module(name), "classify")


def _guessed(source: Path) -> str:
    """A network's name from that of a file: resnet18-f37072fd.pth."""
    stem = source.stem.lower()
    names = [name for name in _models().list_models() if stem.startswith(name)]
    if not names:
        what = f"{source}: its name tells no network of torchvision's"
        raise ModelError(what, "Name it as `architecture` (--architecture): resnet18, vit_b_16 ...")
    return str(max(names, key=len))


def _transforms(transforms: Any) -> tuple[int, Any]:
    """The size that a network was trained with, and its preprocessing as params.yaml has it."""
    if not hasattr(transforms, "crop_size"):  # of segmentation
        size = transforms.resize_size[0]
        return size, {"preset": "imagenet", "mode": "stretch"}
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    own = {} if resize == round(crop * 256 / 224) else {"resize": resize}
    if transforms.interpolation.value != "bilinear":
        own["interpolation"] = transforms.interpolation.value
    return crop, {"preset": "imagenet", **own} if own else "imagenet"


def _read(file: Path, source: Path) -> dict[str, Any]:
    """A state dict: the file's own, or the one that a training script keeps in it."""
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything
        reason = " ".join(str(error).split())[:120]
        what = f"{source} is no state dict that loads without running code: {reason}"
        raise ModelError(what, "Save `model.state_dict()` alone with torch.save") from None
    for key in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(hasattr(v, "shape") for v in content.values()):
        what = f"{source} holds no state dict"
        raise ModelError(what, "Save `model.state_dict()` with torch.save")
    state = OrderedDict((_plain(key), value) for key, value in content.items())
    versions = getattr(content, "_metadata", {})  # of layers: some networks ask for them
    state._metadata = {_plain(key): value for key, value in versions.items()}  # type: ignore[attr-defined]
    return state


def _plain(key: Any) -> str:
    """A weight's name without what training on several GPUs puts before it."""
    return (
        str(key).removeprefix("module").removeprefix(".") if _WRAPPED.match(str(key)) else str(key)
    )


def _classes(state: Mapping[str, Any]) -> int:
    """How many classes a network gives: its last weights' first axis, beside auxiliary heads."""
    heads = [
        value
        for key, value in state.items()
        if getattr(value, "ndim", 0) > 1 and not key.lower().startswith(("aux", "auxlogits"))
    ]
    return int(heads[-1].shape[0]) if heads else 0


def _network(name: str, state: Mapping[str, Any], source: Path) -> Any:
    auxiliary = any(key.lower().startswith("aux") for key in state)
    options: dict[str, Any] = {"weights": None, "num_classes": _classes(state)}
    if _task(name) == "semantic":
        options["weights_backbone"] = None
        if "lraspp" not in name:
            options["aux_loss"] = auxiliary
    if name in ("googlenet", "inception_v3"):  # as torchvision makes them for its own weights
        options |= {"aux_logits": auxiliary, "transform_input": True, "init_weights": False}
    network = _models().get_model(name, **options)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split(":", 1)[-1].split())[:200]
        what = f"{source} has not the weights of {name}: {reason}"
        raise ModelError(what, "Correct `architecture` in params.yaml, or the file") from None
    if auxiliary and hasattr(network, "aux_classifier"):
        network.aux_classifier = None  # its output is of no use but in training
    return network.eval()


def _trace(network: Any, settings: ExportSettings, out: Path, source: Path) -> None:
    import torch

    from enginery.sources.ultralytics_compat import silence

    axes = {0: "batch", 2: "height", 3: "width"} if settings.dynamic else {}
    outputs = {0: "batch"} if settings.dynamic else {}
    try:
        with silence():  # of the tracer, about what it takes as constant
            torch.onnx.export(
                network,
                (torch.zeros(settings.batch, 3, *settings.imgsz),),
                str(out),
                opset_version=settings.opset,
                dynamo=False,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                dynamic_axes={_INPUT: axes, _OUTPUT: outputs} if axes else None,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        what = f"{source} cannot be exported with {list(settings.imgsz)}: {reason}"
        raise ModelError(what, "Try another opset, height or width in params.yaml") from None


def _names(name: str, count: int) -> Sequence[str]:
    """The classes of ImageNet, if there are as many: else params.yaml must name them."""
    weights = next(iter(_models().get_model_weights(name)), None)
    own = weights.meta.get("categories", []) if weights else []
    return own if len(own) == count else []


SOURCE = TorchvisionWeights()
