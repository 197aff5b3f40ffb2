"""A model in params.yaml: a team's first one takes the demo's place, the others are added at the
end. Comments and layout stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from enginery import sources
from enginery.errors import ConfigError, EngineryError
from enginery.project.engine_name import NAME
from enginery.project.yaml_text import LayoutError, YamlText, block, inline
from enginery.sources.interface import Suggestion
from enginery.vision.tasks import ULTRALYTICS_TASKS

RULE = "yolo-head-2"  # it knows the last layers of every task's head
_SIZES = {"classify": 224, "obb": 1024}  # what Ultralytics trains them with
_SIZE = 640
Entries = Mapping[str, Mapping[str, Mapping[str, Any]]]
_BY_SUFFIX = {"-seg": "segment", "-pose": "pose", "-obb": "obb", "-cls": "classify"}


@dataclass(frozen=True)
class NewModel:
    """A model as params.yaml will have it; `calibration` is missing where it has no INT8. Without
    `targets` or `precisions` of its own it has the matrix's.
    """

    name: str
    source: str
    task: str
    validation: str
    calibration: str | None
    targets: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    names: str | None = None
    truth: str = "labels"
    takes_images: bool = True
    suggestion: Suggestion = field(default_factory=Suggestion)

    def settings(self) -> dict[str, Any]:
        """Its entry of `models`."""
        usual = _SIZES.get(self.task, _SIZE)
        size, own = self.suggestion.size or (usual, usual), self.suggestion
        sizes = {"height": size[0], "width": size[1]} if self.takes_images else {}
        known = {
            "architecture": own.architecture,
            "preprocess": own.preprocess,
            "names": self.names,
            "truth": None if self.truth == "labels" else self.truth,
        }
        opset = {} if sources.find(self.source).has_own_sizes else {"opset": 17}
        engines = {"targets": list(self.targets), "precisions": list(self.precisions)}
        return {
            "source": self.source,
            "task": self.task,
            "batch": 1,
            **sizes,
            **opset,
            "validation": self.validation,
            **{key: value for key, value in known.items() if value},
            **{key: names for key, names in engines.items() if names},
        }

    def int8_settings(self) -> dict[str, Any]:
        """Its entry of `int8`."""
        rule = {"rule": RULE} if self.task in ULTRALYTICS_TASKS else {}
        rule = {} if self.suggestion.architecture else rule
        return {"calibration": self.calibration, "algorithm": "mse", **rule}


@dataclass(frozen=True)
class NewTarget:
    """A target as params.yaml will have it."""

    name: str
    runtime: str
    compute_capability: str

    def settings(self) -> dict[str, str]:
        """Its entry of `targets`."""
        return {"runtime": self.runtime, "compute_capability": self.compute_capability}

    def line(self) -> str:
        """The same as this repository writes it."""
        inner = f'runtime: {self.runtime}, compute_capability: "{self.compute_capability}"'
        return f"{self.name}: {{ {inner} }}\n"


_RTX = {"rtx-turing": "7.5", "rtx-ampere": "8.6", "rtx-ada": "8.9", "rtx-blackwell": "12.0"}
_DATA_CENTRE = {"t4": "7.5", "a100": "8.0", "a10": "8.6", "orin": "8.7", "l4": "8.9", "h100": "9.0"}
TARGETS: Mapping[str, NewTarget] = {
    **{name: NewTarget(name, "tensorrt_rtx", level) for name, level in _RTX.items()},
    **{name: NewTarget(name, "tensorrt", level) for name, level in _DATA_CENTRE.items()},
}


def new_targets(names: Iterable[str]) -> tuple[NewTarget, ...]:
    """The targets that people name: known GPUs, or NAME=8.9 for TensorRT-RTX on another one.

    Raises:
        ConfigError: a name that is neither.
    """
    names = list(names)
    mistakes = [f"--target {name}: {wrong}" for name in names if (wrong := _target_mistake(name))]
    if mistakes:
        raise ConfigError("what to build for", mistakes)
    targets = (TARGETS.get(name) or _own_target(*name.split("=", 1)) for name in names)
    return tuple(dict.fromkeys(targets))


def _own_target(name: str, capability: str) -> NewTarget:
    return NewTarget(name, "tensorrt_rtx", capability)


def _target_mistake(name: str) -> str:
    own, is_own, capability = name.partition("=")
    if not is_own:
        return "" if name in TARGETS else f"unknown; known are {', '.join(TARGETS)}; or NAME=8.9"
    if not re.match(NAME, own):
        return "a name has small letters, digits, - and _"
    return "" if re.fullmatch(r"\d+\.\d", capability) else f"{capability!r} is no such as 8.9"


def model_name(stem: str) -> str:
    """A file's name as params.yaml takes it: small letters, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_") or "model"


def guessed_task(stem: str) -> str:
    """The task that a file's name tells, as Ultralytics names its weights: yolo11n-seg."""
    return next((task for end, task in _BY_SUFFIX.items() if end in stem.lower()), "detect")


def first_params(
    template: str, model: NewModel, targets: Sequence[NewTarget], precisions: Sequence[str]
) -> str:
    """This repository's params.yaml with a team's model in the demo's place."""
    text = YamlText(template)
    before = text.value()
    [demo] = before["models"]
    text.set(("matrix", "models"), [model.name])
    text.set(("matrix", "targets"), [target.name for target in targets])
    text.set(("matrix", "precisions"), list(precisions))
    _take_place(text, ("models", demo), model.settings(), model.name)
    if model.calibration:
        _take_place(text, ("int8", demo), model.int8_settings(), model.name)
    else:
        text.set(("int8",), {})
    _replace_targets(text, targets)
    text.remove(("demo",))
    return text.text


def _take_place(
    text: YamlText, path: tuple[str, str], settings: Mapping[str, Any], name: str
) -> None:
    """Let new settings take the place of others, each on the line of its key."""
    before = text.value()[path[0]][path[1]]
    for key in before.keys() - settings.keys():
        text.remove((*path, key))
    for key in settings.keys() & before.keys():
        text.set((*path, key), settings[key])
    for key in settings.keys() - before.keys():
        text.insert(path, f"{key}: {inline(settings[key])}\n")
    text.rename(path, name)


def _replace_targets(text: YamlText, targets: Sequence[NewTarget]) -> None:
    old = text.value()["targets"]
    for target in targets:
        if target.name not in old:
            text.insert(("targets",), target.line())
    for name in old.keys() - {target.name for target in targets}:
        text.remove(("targets", name))


def further_params(params: str, model: NewModel, targets: Sequence[NewTarget] = ()) -> str:
    """params.yaml with one more model, and with targets that it does not have, at the end of its
    blocks.

    Raises:
        ConfigError: it has a model of this name.
        EngineryError: it is laid out in a way that cannot be edited.
    """
    before = YamlText(params).value()
    if model.name in before["models"]:
        cure = "choose another with --name"
        raise ConfigError("params.yaml", [f"models.{model.name}: there is one already; {cure}"])
    added = _entries(model, [target for target in targets if target.name not in before["targets"]])
    wanted = _with_entries(before, model.name, added)
    for edit in (_edited_text, _edited_by_ruamel):
        try:
            after = edit(params, model.name, added)
        except (LayoutError, ImportError):
            continue
        if yaml.safe_load(after) == wanted:
            return after
    raise EngineryError(
        "params.yaml is laid out in a way that cannot be edited here",
        f"Add {model.name} to `matrix.models`, and by hand: {inline(added)}",
    )


def _entries(model: NewModel, targets: Sequence[NewTarget]) -> Entries:
    """What is new in `models`, `int8` and `targets`."""
    entries: Entries = {
        "models": {model.name: model.settings()},
        "int8": {model.name: model.int8_settings()} if model.calibration else {},
        "targets": {target.name: target.settings() for target in targets},
    }
    return {kind: new for kind, new in entries.items() if new}


def _with_entries(params: Mapping[str, Any], name: str, added: Entries) -> dict[str, Any]:
    matrix = {**params["matrix"], "models": [*params["matrix"]["models"], name]}
    blocks = {kind: {**(params.get(kind) or {}), **new} for kind, new in added.items()}
    return {**params, "matrix": matrix, **blocks}


def _edited_text(params: str, name: str, added: Entries) -> str:
    text = YamlText(params)
    text.append(("matrix", "models"), name)
    for kind, entries in added.items():
        text.insert((kind,), block(entries))
    return text.text


def _edited_by_ruamel(params: str, name: str, added: Entries) -> str:
    """The same by a library that knows every layout, and may lay out some lines anew."""
    import io

    from ruamel.yaml import YAML

    parser = YAML()
    parser.preserve_quotes, parser.width = True, 10**6
    content = parser.load(params)
    content["matrix"]["models"].append(name)
    for kind, entries in added.items():
        if content.get(kind) is None:
            content[kind] = {}
        content[kind].update(entries)
    out = io.StringIO()
    parser.dump(content, out)
    return out.getvalue()
