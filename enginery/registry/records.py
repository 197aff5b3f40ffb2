"""JSON files that steps and commands leave for each other: frozen types, checked when read.

A file that is not whole (cut off, a merge conflict, a key missing) is a DamagedFileError with its
cause. Keys that a type does not name are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from enginery.errors import DamagedFileError
from enginery.system.files import dumps

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
Positive = Annotated[int, Field(ge=1)]
Shape = tuple[Positive, Positive, Positive, Positive]  # of images: batch, 3, height, width

_NAMED_MISTAKES = 3
_CONFLICT = (b"<<<<<<< ", b"=======", b">>>>>>> ")  # git's marks at the beginning of a line
Kind = TypeVar("Kind", bound="Record")
Parameters = TypeVar("Parameters")


class Record(BaseModel):
    """An object of a JSON file."""

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    def to_json(self) -> dict[str, Any]:
        """As plain values, just as they were read."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Recipe(Record, Generic[Parameters]):
    """What shaped a step's output and is no file that it reads."""

    step: str
    version: int
    tools: Mapping[str, str]
    parameters: Parameters


class StepRecord(Record, Generic[Parameters]):
    """What a step wrote beside its output."""

    recipe: Recipe[Parameters]


def read_record(path: Path, kind: type[Kind]) -> Kind:
    """A JSON file as a type.

    Raises:
        DamagedFileError: it is missing, cannot be read, or is not what the type says.
    """
    try:
        if not path.is_file():
            raise DamagedFileError(path, "is no file" if path.exists() else "is missing")
        return parse(path.read_bytes(), kind)
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DamagedFileError(path, str(error)) from None


def parse(data: bytes, kind: type[Kind]) -> Kind:
    """JSON as a type.

    Raises:
        ValueError: it is not what the type says; the text goes on after the file's name.
    """
    try:
        record = kind.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(_cause(data, error)) from None
    try:
        dumps(record.to_json())
    except ValueError:
        raise ValueError("holds a number that is not finite") from None
    return record


def _cause(data: bytes, error: ValidationError) -> str:
    lines = data.splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith(_CONFLICT):
            return f"holds a merge conflict (line {number})"
    if not data.strip():
        return "is empty"
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"is no JSON: {first['ctx']['error']}"
    mistakes = list(dict.fromkeys(map(_sentence, error.errors())))
    others = (
        f" and {len(mistakes) - _NAMED_MISTAKES} more" if len(mistakes) > _NAMED_MISTAKES else ""
    )
    return f"is not whole: {'; '.join(mistakes[:_NAMED_MISTAKES])}{others}"


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "value_error" and not error["loc"]:
        return str(error["ctx"]["error"])
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}"
