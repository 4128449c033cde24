"""A page: a template, its style and its scripts, in one HTML file that loads nothing.

What users and models wrote is text to be shown. Jinja escapes it, and the page's own policy lets
the browser run no script but those that are named here by their digest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gcr
from gcr.core.phrases import chance, count, duration
from gcr.core.plaintext import visible

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
NAME = "index.html"


def render(template: str, scripts: Sequence[str], values: Mapping[str, Any]) -> bytes:
    """The page. scripts: names of files that it runs, in order, once it is there."""
    from markupsafe import Markup

    # Before anything is seen, so that a page that is to be dark does not flash.
    early, late = _read("theme.js"), "\n".join(_read(name) for name in scripts)
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in (early, late) if script)
    html = (
        _environment()
        .get_template(template)
        .render(
            # Our own files, which are not escaped.
            style=Markup(_read("style.css")),  # noqa: S704
            early=Markup(early),  # noqa: S704
            late=Markup(late),  # noqa: S704
            policy=f"default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'; "
            f"script-src {digests}",
            version=gcr.__version__,
            **values,
        )
    )
    # A file can hold half of a surrogate pair, which UTF-8 cannot.
    return html.encode(errors="replace")


def number(value: float | None) -> str:
    """A score."""
    return "–" if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """A difference of scores."""
    if value is None:
        return "–"
    shown = f"{abs(value):.2f}"
    return f"±{shown}" if shown == "0.00" else f"{'−' if value < 0 else '+'}{shown}"


def written(value: object) -> str:
    """A setting, as a person writes it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value)) or "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {written(one)}" for key, one in value.items()) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None or value == "" else str(value)


def names(files: object) -> str:
    """Files without their folders, which say more of a machine than of a batch."""
    return ", ".join(Path(str(file)).name for file in files) if isinstance(files, list) else ""


def moment(iso: object) -> str:
    """2026-08-23T14:32:05+02:00 as 2026-08-23 14:32."""
    return str(iso or "")[:16].replace("T", " ")


def _shown(value: object) -> object:
    """What stands in a page for a value: of a text, nothing acts unseen. Markup is ours."""
    return value if not isinstance(value, str) or hasattr(value, "__html__") else visible(value)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=_shown,
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (number, signed, written, moment, duration, count, chance)
    environment.filters.update({one.__name__: one for one in filters})
    return environment


@cache
def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8").strip()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
