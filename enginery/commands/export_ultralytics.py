"""`enginery export-ultralytics`: an engine as `YOLO("x.engine")` loads it, with Ultralytics' metadata before the plan."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginery.commands import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(commands, "export-ultralytics", _run, "write an engine as YOLO(\"x.engine\") loads it")
    parser.add_argument("engine", help="model/target/precision, or a part of it")
    parser.add_argument("--out", type=Path, help="the file (default: MODEL-TARGET-PRECISION.engine)")


def _run(args: argparse.Namespace) -> int:
    from enginery.errors import IntegrityError
    from enginery.files import replacing
    from enginery.registry import damage, find

    engine = find(args.engine)
    harm = damage(engine)
    if harm:
        raise IntegrityError(harm[0], "Run `enginery build`: it restores the plan")
    header = json.dumps(metadata(engine.manifest), sort_keys=True).encode()
    out = args.out or Path(f"{engine.name.replace('/', '-')}.engine")
    with replacing(out) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(4, "little"))
        file.write(header)
        file.write(engine.plan.read_bytes())
    print(f"{out}: {engine.name} for {engine.manifest['runtime']} {engine.manifest['runtime_version']}")
    return 0


def metadata(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What Ultralytics reads of an engine: task, classes, stride, sizes (height, width), batch."""
    export, profile = manifest["steps"]["export"], manifest["steps"]["build"]["recipe"]["parameters"]["profile"]
    batch, channels, height, width = profile["opt"]
    return {
        "description": f"{manifest['model']} {manifest['precision']}, built by Enginery",
        "task": export["task"], "stride": export["stride"],
        "names": {int(index): name for index, name in export["names"].items()}, "batch": batch, "channels": channels,
        "imgsz": [height, width], "args": {"dynamic": profile["min"] != profile["max"], "nms": False},
        **({"kpt_shape": export["kpt_shape"]} if "kpt_shape" in export else {}),
    }
