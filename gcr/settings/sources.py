"""What users set, and where: on the command line, in the environment, in files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from gcr.core.phrases import nearest
from gcr.errors import UsageError
from gcr.files import structured
from gcr.files.structured import MalformedError

PREFIX = "GCR_"
LIKENESS = 0.7
"""Of an unknown name to one of ours, at least, to be taken for a misspelt one."""


class Given(NamedTuple):
    """A value that was set, and where.

    origin: as messages name it: a flag, a variable, a key of a file.
    by_user: whether the user set it; a file in the working folder may be somebody else's.
    """

    value: object
    origin: str
    by_user: bool = False


def from_flags(flags: Mapping[str, object], keys: Collection[str]) -> dict[str, Given]:
    """Values of flags; None means "not given".

    keys: of what can be set. Raises UsageError for a flag that is none of them.
    """
    for key in flags:
        _check_known(key, keys, f"no setting {key!r}")
    return {
        key: Given(value, f"--{key.replace('_', '-')}", by_user=True)
        for key, value in flags.items()
        if value is not None
    }


def from_environment(
    environ: Mapping[str, str],
    keys: Collection[str],
    besides: Collection[str] = (),
    lists: Collection[str] = (),
) -> dict[str, Given]:
    """Values of GCR_*. A name that is close to none of ours is another program's.

    keys: of what can be set.
    besides: names that are ours, but no settings.
    lists: keys of several values, for which a JSON list may stand.
    Raises UsageError for a name that seems to be a misspelt one of ours, and for a list that is
    not whole.
    """
    given: dict[str, Given] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in besides or not value:
            continue
        key = name.removeprefix(PREFIX).lower()
        if key in keys:
            several = key in lists and value.lstrip().startswith('["')
            given[key] = Given(_listed(value, name) if several else value, name, by_user=True)
        elif nearest(key, keys, LIKENESS):
            _check_known(key, keys, f"unknown environment variable {name}", PREFIX)
    return given


def _listed(text: str, name: str) -> object:
    try:
        return structured.parse_json(text)
    except MalformedError as error:
        raise UsageError(
            f"{name} is no list in JSON: {error.problem}", """such as '["red", "two circles"]'"""
        ) from error


def from_file(path: Path, keys: Collection[str], *, by_user: bool = False) -> dict[str, Given]:
    """Values of a YAML file; none where there is no file.

    keys: of what can be set.
    by_user: whether the file is in the user's own config folder.
    Raises UsageError for a file that cannot be read, is no mapping, or has an unknown key.
    """
    try:
        content = structured.parse_yaml(structured.text(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise UsageError(message, "mend or remove the file") from error
    except MalformedError as error:
        message = f"{error.place(path)}: {error.problem}"
        raise UsageError(message, "mend or remove the file") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no settings", "write one `name: value` on each line")
    given = {}
    for spelling, value in content.items():
        key = str(spelling).replace("-", "_")
        _check_known(key, keys, f"unknown setting {str(spelling)!r} in {path}")
        if value is not None:
            given[key] = Given(value, f"{key} in {path}", by_user)
    return given


def _check_known(key: str, keys: Collection[str], message: str, prefix: str = "") -> None:
    if key in keys:
        return
    near = nearest(key, keys, LIKENESS)
    hint = (
        f"did you mean {prefix}{near.upper() if prefix else near}?"
        if near
        else f"known: {', '.join(sorted(keys))}"
    )
    raise UsageError(message, hint)
