"""The wheel carries what `enginery init` writes: this repository's own files, from its root.

pyproject.toml says all the rest.
"""

import runpy
from pathlib import Path
from shutil import rmtree

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKED = Path("enginery/project/template")


class BuildWithTemplate(build_py):
    """Packs the template's files into the package, and names them to whoever packs the sources."""

    def run(self) -> None:
        super().run()
        rmtree(Path(self.build_lib) / PACKED, ignore_errors=True)  # of an earlier build
        if not self.editable_mode:  # an editable install reads them at the root
            for source, target in self._template().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), "enginery/project/template.py", *self._template()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        packed = [] if self.editable_mode else list(self._template().values())
        return [*super().get_outputs(include_bytecode), *packed]

    def _template(self) -> dict[str, str]:
        """Where each file is packed, by its name at the root."""
        listing = runpy.run_path(str(ROOT / "enginery/project/template.py"))
        names = listing["template_files"](ROOT)
        return {name: str(Path(self.build_lib) / PACKED / name) for name in names}


setup(cmdclass={"build_py": BuildWithTemplate})
