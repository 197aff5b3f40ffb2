"""simplify: onnxsim in a child process; its outputs are compared on real images; on failure the
unsimplified graph goes on.
"""

from __future__ import annotations

from pathlib import Path

from enginery.graphs.simplify import simplify
from enginery.project.paths import Step, model_folder
from enginery.report.events import log
from enginery.system.files import replacing_folder, write_json
from enginery.vision.feeds import feeds
from enginery.vision.images import list_images
from tasks.command import recipe, record, run_step

COMPARED_IMAGES = 4
TIME_LIMIT_S = 600


def simplify_model(step: Step) -> None:
    """Write the simplified graph, or the same graph with the reason why not."""
    source = model_folder(step.model, "export") / "model.onnx"
    wanted = recipe(step)
    paths, task = (
        list_images(Path(wanted["validation"]), wanted["task"])[:COMPARED_IMAGES],
        wanted["task"],
    )
    images = feeds(source, paths, task, (wanted["height"], wanted["width"]))
    with replacing_folder(model_folder(step.model, "simplify")) as folder:
        facts = simplify(source, folder / "model.onnx", images, TIME_LIMIT_S)
        write_json(folder / "record.json", record(step, **facts))
    if facts["simplified"]:
        log(
            f"simplified: {facts['nodes_before']} -> {facts['nodes_after']} nodes, outputs equal on {COMPARED_IMAGES} images"
        )
    else:
        log(f"not simplified, the exported graph goes on: {facts['reason']}", "warning")


if __name__ == "__main__":
    run_step("simplify", simplify_model, "model")
