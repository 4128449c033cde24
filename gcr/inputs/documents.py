"""Rows of texts: plain lines, JSON lines, and JSON and YAML documents.

A plain line that begins with a flag of A1111's is read as its "prompts from file" does:
`--prompt "a dog" --seed 5`.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from gcr.errors import UsageError
from gcr.files import structured
from gcr.files.structured import MalformedError, first_flaw, lines_of
from gcr.inputs.rows import UTF8, Row, column_of

logger = logging.getLogger(__name__)

FORM = "it holds a list of texts or objects, or one object of objects keyed by id"
QUOTE = "quote texts that hold `: ` or start with a mark"

READ = ("prompt", "negative_prompt", "seed")
"""Flags of A1111's that are read."""
IGNORED = (
    *("steps", "cfg_scale", "width", "height", "sampler_name", "sampler_index", "sd_model"),
    *("batch_size", "n_iter", "styles", "subseed", "subseed_strength", "restore_faces", "tiling"),
    *("seed_resize_from_h", "seed_resize_from_w", "outpath_samples", "outpath_grids"),
    *("prompt_for_display", "do_not_save_samples", "do_not_save_grid"),
)
"""Flags of A1111's that are ignored: a batch has one setting for all of its prompts."""
ANY_SEED = "-1"
"""A1111's word for a random seed."""

_FLAGS = re.compile(rf"--(?:{'|'.join((*READ, *IGNORED))})(?:\s|$)")
_GAP = re.compile(r"[\s,:]*")


# Lines


class _BadFlagsError(ValueError):
    """A line of flags that cannot be read."""


def plain_lines(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .txt: a prompt on each line, or the flags of A1111."""
    ignored: dict[str, None] = {}
    for number, line in enumerate(lines_of(text), 1):
        _, flaw = first_flaw([line])
        words = line.strip()
        if flaw:
            yield Row(name, number, fault=flaw, hint=UTF8)
        elif _FLAGS.match(words):
            try:
                flags = _flags(words)
            except _BadFlagsError as error:
                yield Row(name, number, fault=str(error), hint='write --prompt "…" --seed 5')
                continue
            ignored |= dict.fromkeys(flag for flag in flags if flag in IGNORED)
            prompt = flags.pop("prompt")
            yield Row(name, number, {prompt_names[0]: prompt, **flags})
        elif words:
            yield Row(name, number, words)
    if ignored:
        listed = ", ".join(f"--{flag}" for flag in ignored)
        logger.warning(
            "%s: flags that are not heeded: %s; a batch has one setting for all of its prompts",
            name,
            listed,
        )


def _flags(line: str) -> dict[str, str]:
    """The flags of a line and their values; those of a prompt may be several words."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise _BadFlagsError(f"malformed quotes: {error}") from error
    flags: dict[str, list[str]] = {}
    flag = ""
    for word in words:
        if not word.startswith("--"):
            flags[flag].append(word)
            continue
        flag = word.removeprefix("--")
        if flag not in (*READ, *IGNORED):
            raise _BadFlagsError(f"A1111 has no flag {word[:60]!r}")
        if flag in flags:
            raise _BadFlagsError(f"{word} stands twice")
        flags[flag] = []
    for flag, values in flags.items():
        if not values or (len(values) > 1 and flag not in ("prompt", "negative_prompt")):
            raise _BadFlagsError(f"--{flag} with {len(values)} values")
    if "prompt" not in flags:
        raise _BadFlagsError("no --prompt")
    if flags.get("seed") == [ANY_SEED]:
        del flags["seed"]
    return {flag: " ".join(values) for flag, values in flags.items()}


def json_lines(name: str, text: str, _names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .jsonl: an object, or a text, on each line."""
    for number, line in enumerate(lines_of(text), 1):
        _, flaw = first_flaw([line])
        if flaw:
            yield Row(name, number, fault=flaw, hint=UTF8)
        elif line.strip():
            try:
                yield Row(name, number, structured.parse_json(line))
            except MalformedError as error:
                hint = "each line must be a JSON object"
                yield Row(name, number, fault=error.problem, hint=hint)


# Documents


def json_document(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .json: a list, an object of objects, or one prompt."""
    return _document(name, text, prompt_names, _json_rows, FORM)


def yaml_document(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .yaml, as of a .json."""
    return _document(name, text, prompt_names, _yaml_rows, QUOTE)


def _document(
    name: str,
    text: str,
    prompt_names: Sequence[str],
    rows: Callable[[str, str, Sequence[str]], Iterator[Row]],
    hint: str,
) -> Iterator[Row]:
    """The rows of a text. Raises UsageError with the hint for what is malformed."""
    try:
        structured.checked(text)
    except MalformedError as error:
        raise UsageError(f"{error.place(name)}: {error.problem}", UTF8) from error
    try:
        yield from rows(name, text, prompt_names)
    except MalformedError as error:
        raise UsageError(f"{error.place(name)}: {error.problem}", hint) from error


def _json_rows(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    document = structured.parse_json(text, strict=False)
    if isinstance(document, list):
        for line, item in _items(text):
            yield Row(name, line, item)
    elif not isinstance(document, dict):
        raise UsageError(f"{name}: no list and no object", FORM)
    elif is_one_prompt(document, prompt_names):
        yield Row(name, _line(text, len(text) - len(text.lstrip())), structured.parse_json(text))
    else:
        items = _items(text)
        for line, key in items:
            yield _keyed(name, line, str(key), next(items)[1])


def is_one_prompt(document: Mapping[object, object], prompt_names: Sequence[str]) -> bool:
    """Whether an object is itself a prompt with its columns, and no object of such objects."""
    prompt = column_of([name for name in document if isinstance(name, str)], prompt_names)
    if prompt is not None:
        return not isinstance(document[prompt], dict)
    return bool(document) and not any(isinstance(value, dict) for value in document.values())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _items(text: str) -> Iterator[tuple[int, object]]:
    """The items of a valid JSON list, or the keys and values of an object, with their lines."""
    decode = structured.JSON.raw_decode
    bare = text.lstrip()
    before = len(text) - len(bare)
    line, counted, at = 1, 0, _after_gap(text, before + 1)
    while text[at] not in "]}":
        line, counted = line + text.count("\n", counted, at), at
        try:
            item, end = decode(text, at)
        except MalformedError as error:
            raise MalformedError(error.problem, line) from error
        yield line, item
        at = _after_gap(text, end)


def _after_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _keyed(name: str, line: int, key: str, value: object) -> Row:
    """A row of an object of objects: its key is one more column."""
    if isinstance(value, dict):
        return Row(name, line, {"key": key} | value)
    return Row(name, line, fault=f"{key[:60]!r} is no object with a prompt in it", hint=FORM)


def _yaml_rows(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    import yaml

    root = structured.compose_yaml(text)
    if isinstance(root, yaml.SequenceNode):
        for node in root.value:
            yield Row(name, node.start_mark.line + 1, structured.construct_yaml(node))
    elif isinstance(root, yaml.MappingNode):
        document = structured.construct_yaml(root)
        if is_one_prompt(document, prompt_names):
            yield Row(name, root.start_mark.line + 1, document)
            return
        for key, node in root.value:
            value = structured.construct_yaml(node)
            yield _keyed(name, key.start_mark.line + 1, str(key.value), value)
    elif root is not None:
        raise UsageError(f"{name}: no list and no object", FORM)
