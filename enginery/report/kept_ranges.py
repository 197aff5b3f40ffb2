"""A model's INT8 ranges as they were drawn last: drawing them anew takes NumPy, and as long as all
else that a run with nothing to do puts into its report.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from enginery.report.document import Html
from enginery.system.files import atomic_write

_FOLDER = Path(".dvc/tmp/enginery-ranges")


def ranges_of(model: str, folder: Path) -> Html:
    """The calibration in a folder, as a table."""
    key, file = _key(model, folder), _FOLDER / f"{model}.html"
    if file.is_file():
        first, _, kept = file.read_text(encoding="utf-8").partition("\n")
        if first == key:
            return Html(kept)
    from enginery.report.ranges_page import ranges_table

    drawn = ranges_table(model, folder)
    if _FOLDER.parents[1].is_dir():  # without DVC's own folder a project has no place for it
        with atomic_write(file) as partial:
            partial.write_text(f"{key}\n{drawn}", encoding="utf-8")
    return drawn


def _key(model: str, folder: Path) -> str:
    """Of all that is drawn, and of what draws it."""
    digest = hashlib.sha256(model.encode())
    for path in (Path(__file__).with_name("ranges_page.py"), *sorted(folder.iterdir())):
        digest.update(path.read_bytes())
    return digest.hexdigest()
