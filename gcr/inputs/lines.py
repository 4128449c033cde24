"""Rows of plain text: a prompt on each line, or what A1111 takes as "prompts from file".

A line that begins with a flag of A1111's is read as it reads it: `--prompt "a dog" --seed 5`.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Sequence

from gcr.files.structured import first_flaw, lines_of
from gcr.inputs.rows import UTF8, Row

logger = logging.getLogger(__name__)

HEEDED = ("prompt", "negative_prompt", "seed")
"""Flags of A1111's that are heeded."""
IGNORED = (
    *("steps", "cfg_scale", "width", "height", "sampler_name", "sampler_index", "sd_model"),
    *("batch_size", "n_iter", "styles", "subseed", "subseed_strength", "restore_faces", "tiling"),
    *("seed_resize_from_h", "seed_resize_from_w", "outpath_samples", "outpath_grids"),
    *("prompt_for_display", "do_not_save_samples", "do_not_save_grid"),
)
"""Flags of A1111's that are for the log alone: a batch has one setting for all of its prompts."""
ANY_SEED = "-1"
"""A1111's word for a seed of its own choice."""

_FLAGS = re.compile(rf"--(?:{'|'.join((*HEEDED, *IGNORED))})(?:\s|$)")


class _BadFlagsError(ValueError):
    """A line of flags that cannot be read."""


def plain(name: str, text: str, known: Sequence[str]) -> Iterator[Row]:
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
            yield Row(name, number, {known[0]: prompt, **flags})
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
        if flag not in (*HEEDED, *IGNORED):
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
