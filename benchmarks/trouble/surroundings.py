"""Around the bad inputs: a built checkout of two models, and servers that are not Prefect's."""

from __future__ import annotations

import http.server
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.trouble.cases.case import GOOD, OWN, SIDE
from benchmarks.trouble.checkouts import PYTHON, ROOT, Params, Place, must


def prepare(place: Place) -> None:
    """Two models with images of their own, built: `good` from a .pt, `own` from an .onnx."""
    code = (
        "import sys; from pathlib import Path; from enginery.demo.dataset import write_dataset\n"
        "from enginery.sources.export import ExportSettings, export\n"
        "root = Path(sys.argv[1])\n"
        "for name, first in (('good', 21), ('own', 1)):\n"
        "    write_dataset(root / name / 'validation', range(first, first + 4), 128)\n"
        "    write_dataset(root / name / 'drawn', range(first + 10, first + 14), 128)\n"
        "    (root / name / 'drawn/images').rename(root / name / 'calibration')\n"
        f"settings = ExportSettings('detect', ({SIDE}, {SIDE}), 1, False, 17)\n"
        "export(root / 'good/model.pt', settings, root / 'own/model.onnx')\n"
    )
    for name in (GOOD, OWN):
        (place.root / "data" / name).mkdir()
    shutil.move(place.root / "data/demo/yolov8n-shapes.pt", place.root / "data/good/model.pt")
    subprocess.run(
        [str(ROOT / PYTHON), "-c", code, str(place.root / "data")], cwd=place.root, check=True
    )
    for name in (GOOD, OWN):
        shutil.rmtree(place.root / "data" / name / "drawn")
    place.change(_two_models)
    stages = (place.root / "dvc.yaml").read_text()
    place.write("dvc.yaml", re.sub(r"  demo-data:\n(    .*\n)+\n", "", stages))
    must(place.run("build", limit=900), "the build of the template")


def _two_models(params: Params) -> None:
    sizes = {"height": SIDE, "width": SIDE}
    params["models"] = {
        GOOD: {"source": "data/good/model.pt", "validation": "data/good/validation", **sizes},
        OWN: {"source": "data/own/model.onnx", "validation": "data/own/validation", **sizes},
    }
    params["int8"] = {
        name: {
            "calibration": f"data/{name}/calibration",
            "minimum_images": 4,
            "rule": "yolo-head-1",
        }
        for name in (GOOD, OWN)
    }
    params["matrix"] = {
        "models": [GOOD, OWN],
        "targets": ["rtx-ada", "rtx-ampere"],
        "precisions": ["fp16", "int8"],
    }
    params["targets"].pop("rtx-blackwell")
    params["validation"] = {
        "map50_95_drop": 1.0,
        "rms_relative": {"fp32": 0.1, "fp16": 0.5, "int8": 1.0},
    }
    params.pop("demo")


@contextmanager
def strange_servers() -> Iterator[dict[str, str]]:
    """URLs of an HTTP server that is not Prefect's, and of one that never answers."""
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NotFound)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        ports = {"other": other.server_address[1], "silent": silent.getsockname()[1]}
        yield {name: f"http://127.0.0.1:{port}/api" for name, port in ports.items()}
    other.shutdown()


class _NotFound(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """There is nothing here."""
        self.send_error(404)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
