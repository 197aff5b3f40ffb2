"""The references are what the code says: nothing is missing in them, nothing is out of date."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import jsonschema
import pytest
import yaml

from docs.generate import MADE, ROOT, outdated
from docs.generate.command import commands
from docs.generate.manifest import definitions
from docs.generate.manifest_keys import KEYS as MANIFEST_KEYS
from docs.generate.python_api import PUBLIC, public_members, public_names
from enginery.project.params import Spec
from enginery.project.schema import KEYS, params_schema, since
from enginery.registry.manifest import Manifest


def page(name: str) -> str:
    return (ROOT / f"docs/reference/{name}.md").read_text(encoding="utf-8")


def test_nothing_is_out_of_date() -> None:
    assert outdated() == [], "run `make docs`, or `python -m docs.generate`"
    assert all((ROOT / name).is_file() for name in MADE)


def test_every_key_of_params_is_described_and_no_other() -> None:
    schema = Spec.model_json_schema()
    types = {"Spec": schema, **schema["$defs"]}
    assert {name: set(body["properties"]) for name, body in types.items()} == {
        name: set(texts) for name, texts in KEYS.items()
    }
    for texts in KEYS.values():
        for key, text in texts.items():
            assert f"`{key}`" in page("params") and " ".join(text.split()) in page("params")
            assert text.endswith("."), text


def test_every_key_of_the_manifest_is_described_and_no_other() -> None:
    types = definitions(Manifest.model_json_schema(by_alias=True))
    assert {name: set(body["properties"]) for name, body in types.items()} == {
        name: set(texts) for name, texts in MANIFEST_KEYS.items()
    }


def test_every_option_is_in_the_reference() -> None:
    text = page("command")
    known = dict(commands())
    assert {"enginery build", "enginery calibration show", "enginery toolchain add"} <= known.keys()
    for full, command in known.items():
        section = text.partition(f"### {full}\n")[2].partition("\n### ")[0]
        assert section, full
        if getattr(command, "commands", None):
            continue
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert re.search(rf"[` ]{option}[`, ]", section), f"{full} {option}"
                assert parameter.help, f"{full} {option} has no help"


def test_every_public_name_is_in_the_reference_and_says_what_it_is() -> None:
    text = page("python")
    for name in PUBLIC:
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for public, value in public_names(importlib.import_module(name)):
            assert f"### {public}\n" in section
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"
            for member, _ in public_members(value) if inspect.isclass(value) else ():
                assert f"- `{member}" in section, f"{name}.{public}.{member}"


def test_examples_in_the_reference_are_what_params_may_say() -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page("params"), re.DOTALL):
        given = yaml.safe_load(block)
        partial = {**params_schema(), "required": []}
        partial["$defs"]["Model"]["required"] = partial["$defs"]["Int8"]["required"] = []
        jsonschema.Draft7Validator(partial).validate(given)


def test_the_demo_names_the_schema_and_fits_it() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=params.schema.json\n")
    jsonschema.Draft7Validator.check_schema(params_schema())
    jsonschema.Draft7Validator(params_schema()).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("models", "yolov8n-shapes", "hieght"), 640, "hieght"),
        (("models", "yolov8n-shapes", "task"), "detects", "detects"),
        (("models", "yolov8n-shapes", "batch"), [1, 2], "[1, 2]"),
        (("matrix", "precisions"), ["fp8"], "fp8"),
        (("targets", "rtx-ada", "compute_capability"), "8.8", "8.8"),
        (("models", "Yolo"), {"source": "a.pt", "validation": "v"}, "Yolo"),
        (("int8", "yolov8n-shapes", "rule"), "yolo", "yolo"),
    ],
)
def test_an_editor_shows_mistakes(path: tuple[str, ...], value: Any, place: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    inner = params
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=re.escape(place)):
        jsonschema.Draft7Validator(params_schema()).validate(params)


def test_since_which_tensorrt() -> None:
    assert since("version_compatible") == "8.6 or later"
    assert since("sparsity") == since("runtime") == ""
