"""Which engine: a model, a target and a precision, as params.yaml names them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NAME = r"^[a-z0-9][a-z0-9_-]*$"
_NAME = re.compile(NAME)
INT8 = "int8"
PRECISIONS = ("fp32", "fp16", INT8)


@dataclass(frozen=True, order=True)
class EngineName:
    """The names in params.yaml, and fp32, fp16 or int8."""

    model: str
    target: str
    precision: str

    def __str__(self) -> str:
        return f"{self.model}/{self.target}/{self.precision}"

    @classmethod
    def of(cls, folder: Path) -> EngineName:
        """The engine whose folder this is."""
        return cls(*folder.parts[-3:])

    @property
    def possible(self) -> bool:
        """Whether params.yaml could call an engine so."""
        names = _NAME.fullmatch(self.model) and _NAME.fullmatch(self.target)
        return bool(names) and self.precision in PRECISIONS
