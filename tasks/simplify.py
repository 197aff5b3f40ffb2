"""simplify: onnxsim in a child process; its outputs are compared on real images; on failure the unsimplified graph goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enginery.evaluation.feeds import feeds
from enginery.evaluation.images import list_images
from enginery.evaluation.labels import check_labels
from enginery.files import replacing_folder, write_json
from enginery.graphs.inspect import fit_profiles, graph_info
from enginery.graphs.simplify import simplify
from enginery.layout import Step, model_folder
from enginery.report.events import log
from enginery.spec import load_spec
from tasks.command import model_head, recipe, record, run_step

COMPARED_IMAGES = 4
TIME_LIMIT_S = 600


def simplify_model(step: Step) -> None:
    """Write the simplified graph, or the same graph with the reason why not."""
    source = model_folder(step.model, "export") / "model.onnx"
    wanted = recipe(step)
    task = wanted["task"]
    paths = list_images(Path(wanted["validation"]), task)
    _check(step, source, paths)
    images = feeds(source, paths[:COMPARED_IMAGES], task, (wanted["height"], wanted["width"]))
    with replacing_folder(model_folder(step.model, "simplify")) as folder:
        facts = simplify(source, folder / "model.onnx", images, TIME_LIMIT_S)
        write_json(folder / "record.json", record(step, **facts))
    if facts["simplified"]:
        log(f"simplified: {facts['nodes_before']} -> {facts['nodes_after']} nodes, outputs equal on {COMPARED_IMAGES} images")
    else:
        log(f"not simplified, the exported graph goes on: {facts['reason']}", "warning")


def _check(step: Step, graph: Path, images: Sequence[Path]) -> None:
    """What this step is the first to know: a graph with the sizes of today's params.yaml, labels with the model's classes."""
    model = load_spec().models[step.model]
    if model.is_onnx:  # its export is not made again for other sizes
        fit_profiles(graph_info(graph), model.all_profiles(), model.input, model.source)
    if (head := model_head(step.model)).names:  # without, it is the validation that says so
        check_labels(images, head)


if __name__ == "__main__":
    run_step("simplify", simplify_model, "model")
