"""Writes docs/options.md from the command line itself: `make docs`.

An option that several commands share with the same meaning is described once, under "Shared
options"; each command then lists it by name.
"""

import html
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from gcr.cli.app import app
from gcr.settings.schema import OPTIONS

PAGE = Path(__file__).with_suffix(".md")
INTRO = """\
# Commands and options

This page is made from the command line by `make docs`; `gcr COMMAND --help` shows the same.

- [Where a value comes from](#where-a-value-comes-from)
- [What is printed, and exit codes](#what-is-printed-and-exit-codes)
- [Shared options](#shared-options)
- Commands: {commands}

## Where a value comes from

A setting has one name everywhere: `--max-images 8` is `max_images: 8` in a file,
`GCR_MAX_IMAGES=8` in the environment, and `max_images=8` in [Python](python.md). The tables below
have the name; options without one, such as `--json`, can only be typed. The first of these wins:

1. the command line
2. the environment, `GCR_…`
3. `./gcr.yaml`
4. `~/.config/gcr/config.yaml`, or under `$XDG_CONFIG_HOME`
5. the profile, then gcr's own default

`keep`, `lora` and `aspect` are lists in a file. In the environment they are one value, or a list in
JSON: `GCR_KEEP='["red", "two circles"]'`.

A misspelt name is an error that suggests the nearest known one. `gcr config list`
shows every setting and where its value comes from.

These variables are not settings, and no file can set them:

| variable | |
|---|---|
| `GCR_YES=1` | fetch missing models without asking, as `--yes` does |
| `GCR_OFFLINE=1` | make no connection, as `--offline` does |
| `GCR_API_KEY` | the key for a [critic on a server](endpoint.md) |
| `GCR_CACHE` | where [gcr's cache](install.md#where-things-are-kept) is |
| `GCR_DEBUG=1` | show the traceback of an error |
| `XDG_CONFIG_HOME` | instead of `~/.config`, where your settings, profiles and measurements are |
| `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` | of the hub: its cache, your token, no connections |
| `OPENAI_API_KEY` | the key for `https://api.openai.com`, and for no other server |
| `SSL_CERT_FILE`, `SSL_CERT_DIR` | certificates of a critic's server, instead of the system's |
| `OMP_NUM_THREADS`, `CUDA_VISIBLE_DEVICES` | of torch: cores on a CPU; which GPUs are seen |
| `RAY_AUTH_MODE`, `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` | of a [Ray](batches.md) with a token |

## What is printed, and exit codes

stdout gets the result and nothing else: a path, or JSON with `--json`. Progress, hints and errors
go to stderr. An error is one line that says what happened and one that says what to do.

| exit code | |
|---|---|
| 0 | done |
| 1 | the run failed, or no image could be scored; `gcr doctor`: something is broken |
| 2 | wrong usage or configuration |
| 3 | some prompts of a batch or comparison failed, or some pictures could not be scored |
| 130, 143, 129 | interrupted by Ctrl-C, SIGTERM or SIGHUP |
| 141 | done, but whoever reads stdout stopped reading, as `head` does |
"""


class Row(NamedTuple):
    """An option in a table. spelling: its names and its value, as Markdown. key: of the setting
    that it sets, which it has in files; empty where it is none.
    """

    panel: str
    spelling: str
    key: str
    text: str


def page() -> str:
    """The whole page, as Markdown."""
    root: Any = typer.main.get_command(app)
    commands = {name: root.get_command(None, name) for name in root.list_commands(None)}
    uses = Counter(row for command in commands.values() for row in _rows(command))
    shared = [row for row, count in uses.items() if count > 1]
    links = ", ".join(f"[{name}](#gcr-{name})" for name in commands)
    sections = [_section(name, command, shared) for name, command in commands.items()]
    parts = [INTRO.format(commands=links), "## Shared options\n", *_tables(shared), *sections]
    return "\n".join(parts)


def _rows(command: Any) -> list[Row]:
    return [
        _row(parameter)
        for parameter in command.params
        if parameter.opts[0].startswith("-") and parameter.name != "help"
    ]


def _row(option: Any) -> Row:
    spelling = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.metavar and not option.is_flag:
        spelling += " `" + option.metavar.replace("|", r"\|") + "`"
    text = _plain((option.help or "").rstrip("."))
    setting = OPTIONS.get(option.name)  # some options have the name of a setting, and are none
    key = option.name if setting is not None and setting.help == option.help else ""
    if option.default and not option.is_flag and "default:" not in text:
        text += f" (default: {option.default})"
    if option.required:
        text += " (required)"
    return Row(option.rich_help_panel or "Other", spelling, key, text)


def _tables(rows: Sequence[Row]) -> list[str]:
    """A table for each panel."""
    parts = []
    for panel in dict.fromkeys(row.panel for row in rows):
        there = [row for row in rows if row.panel == panel]
        if any(row.key for row in there):
            lines = [f"| {panel} | in a file | |", "|---|---|---|"]
            lines += [
                f"| {row.spelling} | {f'`{row.key}`' if row.key else ''} | {row.text} |"
                for row in there
            ]
        else:
            lines = [f"| {panel} | |", "|---|---|"]
            lines += [f"| {row.spelling} | {row.text} |" for row in there]
        parts.append("\n".join([*lines, ""]))
    return parts


def _section(name: str, command: Any, shared: Sequence[Row]) -> str:
    arguments = [parameter for parameter in command.params if parameter.opts[0][0] != "-"]
    usage = " ".join(["gcr", name, *map(_usage, arguments), "[OPTIONS]"])
    rows = _rows(command)
    parts = [f"## gcr {name}\n", f"```\n{usage}\n```\n", _wrapped(command.help) + "\n"]
    if arguments:
        listed = (f"- `{_value(item)}`: {_plain(item.help or '')}" for item in arguments)
        parts.append("\n".join(listed) + "\n")
    parts += _tables([row for row in rows if row not in shared])
    if which := _which(rows, shared):
        parts.append(f"[Shared options](#shared-options): {which}.\n")
    return "\n".join(parts)


def _which(rows: Sequence[Row], shared: Sequence[Row]) -> str:
    """Which of the shared options a command has: whole tables, or a few by name."""
    parts = []
    for panel in dict.fromkeys(row.panel for row in shared):
        there = [row for row in shared if row.panel == panel]
        taken = [row for row in there if row in rows]
        absent = [row for row in there if row not in rows]
        if len(taken) > max(1, len(absent)):
            title = panel.partition(" (")[0]
            parts.append(f"*{title}*" + (f" without {_names(absent)}" if absent else ""))
        elif taken:
            parts.append(_names(taken))
    return "; ".join(parts)


def _names(rows: Sequence[Row]) -> str:
    """The long name of each option."""
    words = (row.spelling.replace(",", "").split() for row in rows)
    return ", ".join(next(name for name in names if name.startswith("`--")) for names in words)


def _value(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[].")


def _usage(argument: Any) -> str:
    name = _value(argument) + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(_plain(each), 96) for each in text.split("\n\n"))


def _plain(text: str) -> str:
    """Plain text as Markdown."""
    return html.escape(text, quote=False).replace("|", r"\|").replace("__", r"\_\_")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
