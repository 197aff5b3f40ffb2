"""`enginery push`: to DVC's remote with all that another clone needs to restore what was built
here.
"""

from __future__ import annotations

import sys

from enginery.cli import Command, new_app

app = new_app()


@app.command(cls=Command)
def push() -> int:
    """Share every build through DVC's remote, and check that it arrived."""
    import logging

    from enginery.pipeline import Pipeline
    from enginery.report.events import progress
    from enginery.system.checkout_lock import checkout_lock

    logging.getLogger("dvc").setLevel(logging.ERROR)
    with checkout_lock():
        pushed = Pipeline().push(progress)
    for line in (*pushed.lost, *pushed.left):
        print(f"not carried: {line}", file=sys.stderr)
    size = f"{pushed.sent_bytes / 1e6:.1f} MB"
    print(
        f"sent {pushed.sent_objects} objects ({size}) "
        f"and {pushed.sent_entries} cached builds to {pushed.remote}"
    )
    print(
        f"the remote has {pushed.objects} objects and {pushed.entries} cached builds "
        "of this checkout: asked for there, one by one"
    )
    if pushed.lost:
        cure = "`enginery build` makes them again; then push again"
        print(
            f"{len(pushed.lost)} outputs of dvc.lock are not at the remote: {cure}", file=sys.stderr
        )
        return 1
    return 0
