"""The prompts of a batch, as they are drawn: wildcards chosen, each with a folder of its own."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gcr.core.plaintext import slug
from gcr.errors import UsageError
from gcr.inputs import formats, promptfile
from gcr.inputs.promptfile import Entry
from gcr.inputs.wildcards import Choice, Wildcards

logger = logging.getLogger(__name__)

SHOWN = 60
"""Characters of a prompt in a message."""
TEXTS = "prompts"
"""What the source of texts that come from no file is called."""


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt of a batch.

    id: distinct in the batch. folder: of its run, below the batch's folder of runs.
    prompt: the words to draw. seed: of the first image.
    place: where it was read, as messages name it.
    written: the words with their wildcards; empty where there are none. choices: what those became.
    extra: the prompt file's other columns. For the log alone: a critic must not see them.
    negative: what is not to be seen; empty: what the settings say.
    """

    id: str
    folder: str
    prompt: str
    seed: int
    place: str
    written: str = ""
    choices: tuple[Choice, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    negative: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """Raises TypeError, KeyError and ValueError for what is no job."""
        choices = (Choice(c["wildcard"], tuple(c["chosen"])) for c in values["choices"])
        job = cls(**{**values, "choices": tuple(choices)})
        if job.folder in ("", ".", "..") or Path(job.folder).name != job.folder:
            raise ValueError(f"the folder {job.folder!r} is not in the batch's own")
        return job


def read(
    prompts: Path | str | Sequence[Path | str],
    *,
    column: str | None = None,
    skip_bad: bool = False,
) -> list[Entry]:
    """The entries of prompt files, which are given as Paths, or of texts, which are given as such.

    column: of the files, with the prompts in it; None: the first that has a usual name.
    skip_bad: leave out, with a warning, the rows that cannot be read.
    Raises UsageError for what cannot be read, and for files among texts.
    """
    given = [prompts] if isinstance(prompts, Path | str) else list(prompts)
    paths = [one for one in given if isinstance(one, Path)]
    if paths and len(paths) < len(given):
        raise UsageError("files and texts together", "give Paths of prompt files, or only texts")
    if not paths:
        return _texts([str(text) for text in given])
    # A Path cannot be told from standard input by its type.
    sources = [formats.STDIN if str(path) == formats.STDIN else path for path in paths]
    found = promptfile.read(sources, column=column, skip_bad=skip_bad)
    for row in found.skipped:
        logger.warning("%s is left out: %s", row.place, row.reason)
    return found.entries


def _texts(texts: Sequence[str]) -> list[Entry]:
    if not texts:
        raise UsageError("no prompts", "give texts, or Paths of prompt files")
    for text in texts:
        if len(text) < 256 and Path(text).suffix and Path(text).is_file():
            raise UsageError(f"{text} is a file", f"give Path({text!r}) to read it")
    return [Entry(str(row), text, TEXTS, row, 0) for row, text in enumerate(texts, 1)]


def of_entries(entries: Sequence[Entry], seed: int, wildcards: Wildcards | None) -> list[Job]:
    """What is drawn for each entry.

    seed: of entries that have none. wildcards: None leaves every text as it is.
    Warns once of what became of wildcards. Raises UsageError, which names the entry's place.
    """
    jobs = [_job(entry, seed if entry.seed is None else entry.seed, wildcards) for entry in entries]
    changed = [job for job in jobs if job.written]
    if changed:
        first = changed[0]
        logger.warning(
            "wildcards were read in %d of %d prompts, as in %s: %s became %s; "
            "--literal leaves all as they are",
            *(len(changed), len(jobs), first.place, _short(first.written), _short(first.prompt)),
        )
    return jobs


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _job(entry: Entry, seed: int, wildcards: Wildcards | None) -> Job:
    written = prompt = entry.prompt.strip()
    choices: tuple[Choice, ...] = ()
    if wildcards is not None:
        try:
            expansion = wildcards.expand(written, seed)
        except UsageError as error:
            hint = f"{error.hint}; --literal leaves texts as they are"
            raise UsageError(f"{entry.place}: {error.message}", hint) from error
        prompt, choices = expansion.text.strip(), expansion.choices
    if not prompt:
        raise UsageError(f"{entry.place}: the prompt is empty", "write one, or remove the row")
    if prompt != written:
        logger.info("%s: %r became %r", entry.place, written, prompt)
    return Job(
        id=entry.id,
        folder=_folder(entry.id),
        prompt=prompt,
        seed=seed,
        place=entry.place,
        written=written if prompt != written else "",
        choices=choices,
        negative=entry.negative,
        extra=entry.extra,
    )


def _folder(id_: str) -> str:
    """The id itself where every file system takes it; else what is left of it, and a hash."""
    name = slug(id_)
    if name == id_:
        return name
    digest = hashlib.sha256(id_.encode(errors="surrogatepass")).hexdigest()[:8]
    return "-".join(filter(None, (name, digest)))


def read_shard(text: str) -> tuple[int, int]:
    """`2/3` as numbers. Raises UsageError for what is no part of a whole."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text!r} is no part", "2/3 is the second of three parts")
    return int(found[1]), int(found[2])


def shard(jobs: Sequence[Job], part: int, parts: int) -> list[Job]:
    """Every `parts`-th of the jobs, from the `part`-th on, counted from 1."""
    return list(jobs[part - 1 :: parts])
