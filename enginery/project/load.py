"""Reading params.yaml: every mistake at once, each with its key, its value and what is allowed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from enginery.errors import ConfigError
from enginery.project.checks import mistakes as cross_mistakes
from enginery.project.params import PARAMS_FILE, Spec
from enginery.project.registry_settings import RegistrySettings

_MOST_NODES = 100_000  # of params.yaml; nobody writes so many


def load_spec(path: Path = PARAMS_FILE) -> Spec:
    """Read and check params.yaml.

    Raises:
        ConfigError: the file is missing, is no YAML, or has mistakes: all of them, each with its
        key.
    """
    raw = _read(path)
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            str(path),
            [*dict.fromkeys(map(_sentence, error.errors())), *_further(raw, error.errors())],
        ) from None
    mistakes = list(cross_mistakes(spec))
    if mistakes:
        raise ConfigError(str(path), mistakes)
    return spec


def team_settings(
    location: str | None = None, signers: Path | None = None, path: Path = PARAMS_FILE
) -> RegistrySettings:
    """Where the team's registry is: as params.yaml says, if there is one, or at a location.

    With `signers`, a file of ssh-keygen's, only what one of them signed counts.

    Raises:
        ConfigError: params.yaml has mistakes.
    """
    settings = load_spec(path).registry if path.exists() else RegistrySettings()
    changes: dict[str, object] = {"location": location} if location else {}
    if signers:
        changes.update(allowed_signers=str(signers.resolve()), require_signature=True)
    return settings.model_copy(update=changes)


def _read(path: Path) -> Mapping[str, Any]:
    if path.exists() and not path.is_file():
        raise ConfigError(
            str(path), [f"{path.name} is no plain file: a pipe, a device or a folder is not read"]
        )
    try:
        raw = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            str(path), ["no such file here; run this in the folder that holds it"]
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(path), [f"not readable as YAML: {' '.join(str(error).split())}"]
        ) from None
    except RecursionError:
        raise ConfigError(str(path), ["not readable as YAML: it is nested too deeply"]) from None
    if not isinstance(raw, dict):
        raise ConfigError(str(path), [f"a mapping is expected, not {type(raw).__name__}"])
    return raw


def _parse(text: str) -> Any:
    """The value of a YAML text whose aliases do not multiply: a few lines of them can stand for
    more than any memory holds.

    Raises:
        YAMLError: it is no YAML, or its aliases lead to themselves or to too much.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _expanded(root, {}) > _MOST_NODES:
            raise yaml.YAMLError(
                f"its aliases (*name) stand for more than {_MOST_NODES:,} values; write them out"
            )
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes a node stands for, with every alias in it written out; `known` are those
    counted already.
    """
    if id(node) not in known:
        known[id(node)] = _MOST_NODES  # what an alias of itself would find
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value if isinstance(node, yaml.SequenceNode) else []
        known[id(node)] = 1 + sum(_expanded(part, known) for part in inner)
    return known[id(node)]


def _further(raw: Mapping[str, Any], errors: Iterable[Any]) -> Iterator[str]:
    """What else is wrong, where the rest makes sense without the values that these errors name."""
    rest = copy.deepcopy(dict(raw))
    for error in errors:
        *parents, last = (part for part in error["loc"] if not _is_marker(part))
        try:
            place = reduce(lambda value, part: value[part], parents, rest)
        except LookupError:
            continue  # left out for an error before
        if error["type"] != "extra_forbidden" and not _is_value(place, last, error):
            return  # what refers to it would be wrong without it
        place.pop(last, None)
    with suppress(ValidationError):
        yield from cross_mistakes(Spec.model_validate(rest))


def _is_value(place: Any, key: Any, error: Any) -> bool:
    """Whether an error is about a single value of a mapping, which may be left out."""
    whole = "[key]" in error["loc"] or error["type"] in ("missing", "model_type", "dict_type")
    return isinstance(place, dict) and not whole and not isinstance(place.get(key), dict)


def _sentence(error: Any) -> str:
    # Union members and pydantic's own markers are no keys of the file.
    keys = [str(part) for part in error["loc"] if not _is_marker(part)]
    where = ".".join(keys) or "(top level)"
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: unknown key"
    message = error["msg"].removeprefix("Value error, ")
    value = "" if isinstance(error["input"], dict) else f" {error['input']!r}:"
    return f"{where}:{value} {message[0].lower()}{message[1:]}"


def _is_marker(part: int | str) -> bool:
    prefixes = ("constrained", "function", "tuple[", "literal[")
    return isinstance(part, str) and (part.startswith(prefixes) or part in ("[key]", "int"))
