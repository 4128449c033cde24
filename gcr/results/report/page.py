"""A page: a template, its style and its scripts, in one HTML file that loads nothing.

What users and models wrote is escaped by Jinja, and the page's content security policy lets the
browser run only the scripts whose digests are named here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gcr
from gcr.core.phrases import chance, count, duration, fact, finding
from gcr.core.plaintext import visible
from gcr.core.promptdiff import pieces

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
NAME = "index.html"


def render(
    template: str, values: Mapping[str, Any], scripts: Sequence[str] = (), *, served: bool = False
) -> bytes:
    """The HTML of a page, in UTF-8.

    Arguments:
        template: its file's name.
        values: what the template shows.
        scripts: names of the files that it runs once it is loaded, beside that of all pages.
        served: whether its scripts may ask the server that it comes from.
    """
    from markupsafe import Markup

    # The theme comes first, so that a dark page does not flash white.
    early, late = _read("theme.js"), "\n".join(map(_read, ("page.js", *scripts)))
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in (early, late))
    html = (
        _environment()
        .get_template(template)
        .render(
            # Files of ours, not to be escaped.
            style=Markup(_read("style.css")),  # noqa: S704
            early=Markup(early),  # noqa: S704
            late=Markup(late),  # noqa: S704
            policy=f"default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'; "
            f"script-src {digests}" + ("; connect-src 'self'" if served else ""),
            version=gcr.__version__,
            **values,
        )
    )
    # A file can hold half of a surrogate pair, which UTF-8 cannot.
    return html.encode(errors="replace")


def fragment(template: str, values: Mapping[str, Any]) -> str:
    """A part of a page."""
    html = _environment().get_template(template).render(**values)
    return html.encode(errors="replace").decode()


def diff(before: str, after: str) -> str:
    """What a rewrite did to a prompt, as pages show it; empty where it left it as it was."""
    return part("diff", before, after) if before != after else ""


def part(macro: str, *values: object) -> str:
    """What a macro of the parts of pages makes of values."""
    parts = _environment().get_template("parts.html").module
    return str(getattr(parts, macro)(*values))


def number(value: float | None) -> str:
    """A score with two decimals."""
    return "–" if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """A difference of scores with two decimals and a sign."""
    if value is None:
        return "–"
    shown = f"{abs(value):.2f}"
    return f"±{shown}" if shown == "0.00" else f"{'−' if value < 0 else '+'}{shown}"


def written(value: object) -> str:
    """A setting for a person to read."""
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value)) or "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {written(item)}" for key, item in value.items()) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None or value == "" else str(value)


def names(files: object) -> str:
    """Files without their folders, which concern only the machine."""
    return ", ".join(Path(str(file)).name for file in files) if isinstance(files, list) else ""


def moment(iso: object) -> str:
    """2026-08-23T14:32:05+02:00 as 2026-08-23 14:32."""
    return str(iso or "")[:16].replace("T", " ")


def _shown(value: object) -> object:
    """A value as a page shows it: no invisible characters in a text, unless it is our markup."""
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
    filters = (number, signed, written, moment, duration, count, chance, fact, finding)
    environment.globals["pieces"] = pieces
    environment.filters.update({filter_.__name__: filter_ for filter_ in filters})
    return environment


@cache
def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8").strip()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
