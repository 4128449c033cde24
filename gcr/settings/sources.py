"""What users set, and where: on the command line, in the environment, in files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from gcr.core.phrases import nearest
from gcr.errors import UsageError
from gcr.files import structured, yamltext
from gcr.files.structured import MalformedError

PREFIX = "GCR_"
LIKENESS = 0.7
"""Of a name to one of ours, at least, for it to be a misspelt one."""


class Given(NamedTuple):
    """A value somebody set, and where: what an error message names.

    by_user: whether it is the user's own word, and not that of a file which came from elsewhere.
    """

    value: object
    origin: str
    by_user: bool = False


def from_flags(flags: Mapping[str, object], keys: Collection[str]) -> dict[str, Given]:
    """keys: of what can be set. None means "not given". Raises UsageError for an unknown one."""
    for key in flags:
        _check_known(key, keys, f"no setting {key!r}")
    return {
        key: Given(value, f"--{key.replace('_', '-')}", by_user=True)
        for key, value in flags.items()
        if value is not None
    }


def from_environment(
    environ: Mapping[str, str], keys: Collection[str], besides: Collection[str] = ()
) -> dict[str, Given]:
    """Values of GCR_*. A name that is close to none of ours is somebody else's.

    besides: names that are ours, but no settings.
    """
    found = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in besides or not value:
            continue
        key = name.removeprefix(PREFIX).lower()
        if key in keys:
            found[key] = Given(value, name, by_user=True)
        elif nearest(key, keys, LIKENESS):
            _check_known(key, keys, f"unknown environment variable {name}", PREFIX)
    return found


def from_file(path: Path, keys: Collection[str], *, by_user: bool = False) -> dict[str, Given]:
    """Values of a YAML file; none where there is no file. by_user: whether the file is the user's.

    Raises UsageError for what is no such file.
    """
    try:
        content = yamltext.parse(structured.text(path))
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
    found = {}
    for written, value in content.items():
        key = str(written).replace("-", "_")
        _check_known(key, keys, f"unknown setting {str(written)!r} in {path}")
        found[key] = Given(value, f"{key} in {path}", by_user)
    return {key: item for key, item in found.items() if item.value is not None}


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
