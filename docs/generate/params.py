"""The schema of params.yaml, and its reference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs.generate.markdown import NOTE, default_words, table, type_words
from enginery.project.schema import params_schema, since

_ORDER = (
    "Matrix",
    "Model",
    "Sizes",
    "Preprocess",
    "OutputTolerance",
    "Int8",
    "Target",
    "Nms",
    "Toolchain",
    "Tolerance",
    "Rms",
    "RegistrySettings",
    "Demo",
)
_PLACES = {
    "Matrix": "matrix",
    "Model": "models.NAME",
    "Sizes": "models.NAME.profiles",
    "Preprocess": "models.NAME.preprocess",
    "OutputTolerance": "models.NAME.outputs.OUTPUT",
    "Nms": "targets.NAME.nms",
    "RegistrySettings": "registry",
    "Int8": "int8.NAME",
    "Target": "targets.NAME",
    "Toolchain": "toolchains.NAME",
    "Tolerance": "validation",
    "Rms": "validation.rms_relative",
    "Demo": "demo",
}
_EXAMPLES = {
    "Matrix": "matrix:\n  models: [plates]\n  targets: [server, rtx-ada]\n"
    "  precisions: [fp16, int8]",
    "Model": "models:\n  plates:\n    source: data/plates/best.pt\n    task: detect\n"
    "    batch: [1, 4, 8]\n    height: 640\n    width: 640\n"
    "    validation: data/plates/validation",
    "Sizes": "models:\n  plates:\n    profiles:\n      - { batch: [1, 1, 1], height: 320, "
    "width: 320 }",
    "Preprocess": "models:\n  plates:\n    preprocess: { mode: stretch, color: bgr, dtype: uint8 }",
    "OutputTolerance": "models:\n  plates:\n    outputs:\n"
    "      scores: { rms: 0.01, cosine: 0.999 }",
    "RegistrySettings": "registry:\n  signing_key: ~/.ssh/id_ed25519\n"
    "  allowed_signers: allowed_signers\n  require_signature: true",
    "Int8": "int8:\n  plates:\n    calibration: data/plates/calibration\n    algorithm: mse\n"
    "    rule: yolo-head-2",
    "Target": 'targets:\n  rtx-ada: { runtime: tensorrt_rtx, compute_capability: "8.9" }\n'
    '  server: { runtime: tensorrt, toolchain: trt10, version: "10.16", gpu: 0 }',
    "Nms": "targets:\n  server:\n    runtime: tensorrt\n    input: uint8\n    output: detections\n"
    "    nms: { confidence: 0.3, detections: 100 }",
    "Toolchain": "toolchains:\n  trt10: { python: .toolchains/trt10/bin/python }",
    "Tolerance": "validation:\n  map50_95_drop: 0.01\n"
    "  rms_relative: { fp32: 0.001, fp16: 0.02, int8: 0.05 }",
    "Rms": "validation:\n  rms_relative: { int8: 0.1 }",
    "Demo": "demo:\n  validation_images: 96\n  calibration_images: 64",
}


def schema_text() -> str:
    """params.schema.json."""
    return json.dumps(params_schema(), indent=1) + "\n"


def page() -> str:
    """docs/reference/params.md."""
    return "\n".join(_parts(params_schema())) + NOTE


def _parts(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "# params.yaml\n"
    yield (
        "The file says what to build. `params.schema.json` lies beside it, and the first line "
        "names it: an editor with a YAML language server completes and checks each key.\n"
    )
    yield _table(schema)
    for name in _ORDER:
        yield f"## {name}\n\n`{_PLACES[name]}`. {schema['$defs'][name]['description']}\n"
        yield _table(schema["$defs"][name])
        yield f"```yaml\n{_EXAMPLES[name]}\n```\n"


def _table(definition: Mapping[str, Any]) -> str:
    properties, required = definition["properties"], definition.get("required", ())
    versions = any(since(key) for key in properties)
    titles = ["key", "type", "default", *(["TensorRT"] if versions else []), "what it says"]
    rows = []
    for key, value in properties.items():
        default = "required" if key in required else default_words(value)
        version = [since(key)] if versions else []
        rows.append([f"`{key}`", type_words(value), default, *version, value["description"]])
    return table(titles, rows)
