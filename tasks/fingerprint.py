"""fingerprint: what this machine and its toolchains are, and the recipe of every stage.

DVC always runs it, and before all others. The flow does the same in its own process.
"""

from __future__ import annotations

from enginery.errors import EngineryError, ExcludedTargetError
from enginery.pipeline.fingerprint import check_inputs, fingerprint
from enginery.pipeline.graph import read_stages
from enginery.pipeline.matrix import check_matrix
from enginery.pipeline.step import Job, NoParameters, step
from enginery.project.load import load_spec
from enginery.report.events import log
from enginery.toolchain.selection import Toolchains


@step("fingerprint", version=1)
def fingerprint_machine(job: Job[NoParameters]) -> None:
    """DVC cannot leave out a stage, so every target must be one for this machine.

    A broken toolchain fails the builds that need it: without their recipes, DVC does not begin
    them.
    """
    spec = load_spec()
    check_matrix(spec)
    check_inputs(spec)
    toolchains = Toolchains(spec)
    with toolchains.answering(spec.used_targets()):
        graph, stages = read_stages(spec)
    excluded = fingerprint(spec, stages, None, graph.before(), toolchains)
    elsewhere = [
        error.what for error in excluded.values() if isinstance(error, ExcludedTargetError)
    ]
    if elsewhere:
        what = f"this machine cannot build every target: {'; '.join(elsewhere)}"
        cure = (
            "`enginery build` leaves these out; "
            "`dvc repro --single-item` makes the stages that you name"
        )
        raise EngineryError(what, cure)
    for error in excluded.values():
        log(str(error), "error")
    for stage in stages:
        if stage.step == "build" and stage.target in excluded:
            stage.recipe.unlink(missing_ok=True)


if __name__ == "__main__":
    fingerprint_machine.main()
