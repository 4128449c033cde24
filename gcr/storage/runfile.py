"""run.json: what a run was begun with, and what came of it."""

from __future__ import annotations

import logging
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from gcr.core.records import Request, Round, Run
from gcr.errors import GcrError, UsageError
from gcr.files import structured
from gcr.files.imagefile import DAMAGE
from gcr.files.structured import MalformedError
from gcr.inputs import source
from gcr.storage import metadata

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import TypeAdapter

logger = logging.getLogger(__name__)

NAME = "run.json"


def read(folder: Path) -> tuple[Run, dict[str, Any]]:
    """The run of a folder as it was begun, without its rounds, and all else that run.json holds.

    Raises UsageError where there is none, GcrError where it cannot be read.
    """
    path = folder / NAME
    try:
        story = structured.record(path)
    except OSError as error:
        message = f"no run in {folder}: {error.strerror or error}"
        raise UsageError(message, "name a folder that `gcr refine` made") from error
    except ValueError as error:
        raise damaged(path, error) from error
    try:
        run = _run(story)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    return run, {key: value for key, value in story.items() if key not in BEGINNING}


BEGINNING = ("id", "request", "settings")


def recovered(
    folder: Path, rounds: tuple[Round, ...], error: GcrError
) -> tuple[Run, dict[str, Any]]:
    """As `read`, from what an image says of its run, where run.json itself is damaged.

    error: that is raised again where no image says anything.
    """
    for finished in rounds:
        for attempt in finished.attempts:
            try:
                text = metadata.read(folder / attempt.image)["gcr"]
                story = structured.parse_record(text.encode())
                run = _run({**story, "id": folder.absolute().name})
            except (OSError, KeyError, TypeError, AttributeError, *DAMAGE):
                continue  # the next one may
            logger.warning("%s; request and settings are those in %s", error.message, attempt.image)
            return run, {"stop": None, "comparison": None}
    raise error


def _run(story: Any) -> Run:
    """Raises AttributeError, KeyError, TypeError and ValueError for what is no run."""
    values = dict(story["request"])
    if unknown := values.keys() - {field.name for field in fields(Request)}:
        raise ValueError(f"this version of gcr knows no {min(unknown)!r} of a request")
    request = _adapter().validate_python(values)
    if request.source not in ("", source.NAME):
        raise ValueError(f"the image to edit is called {request.source!r}")
    if not isinstance(story["settings"], dict):
        raise TypeError("its settings are no object")
    return Run(id=str(story["id"]), request=request, settings=story["settings"])


def damaged(path: Path, error: Exception) -> GcrError:
    """The error for a record in JSON that cannot be read, with the place in it if there is one."""
    place, problem = "", " ".join(str(error).split())
    if isinstance(error, MalformedError):
        place = f", line {error.line}" if error.line else ""
        problem = error.problem.removeprefix("not JSON: ")
    elif isinstance(error, KeyError):
        problem = f"it has no {error}"
    hint = "put the file back as it was, or start anew"
    if path.name == NAME:
        hint += f"; gcr report {path.parent} shows what was drawn"
    return GcrError(f"{path}{place}, is damaged: {problem}", hint)


@cache
def _adapter() -> TypeAdapter[Request]:
    from pydantic import TypeAdapter

    return TypeAdapter(Request)
