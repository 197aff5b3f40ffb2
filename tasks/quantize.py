"""quantize: the graph in the precision asked for, as strongly typed runtimes want it: fp32 as it is, fp16 cast."""

from __future__ import annotations

from enginery.files import replacing_folder, sha256, write_json
from enginery.graphs.precision import to_fp16, to_fp32
from enginery.layout import Step, model_folder
from enginery.report.events import log
from tasks.command import record, run_step

CONVERTERS = {"fp32": to_fp32, "fp16": to_fp16}


def quantize(step: Step) -> None:
    """Write the typed graph that every target builds from."""
    source = model_folder(step.model, "simplify") / "model.onnx"
    with replacing_folder(model_folder(step.model, step.precision) / "graph") as folder:
        facts = CONVERTERS[step.precision](source, folder / "model.onnx")
        digest = sha256(folder / "model.onnx")
        write_json(folder / "record.json", record(step, sha256=digest, **facts))
    log(f"{step.precision} graph {digest[:12]}")


if __name__ == "__main__":
    run_step("quantize", quantize, "model", "precision")
