"""The jobs of a batch: its prompts with wildcards expanded, each with a seed and a folder."""

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
from gcr.files import paths
from gcr.inputs import promptfile, rows
from gcr.inputs.promptfile import Entry
from gcr.inputs.wildcards import Choice, Wildcards

logger = logging.getLogger(__name__)

SHOWN = 60
"""Characters of a prompt in a message."""
TEXTS = "prompts"
"""The source of texts that come from no file."""


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt of a batch.

    Attributes:
        id: distinct in the batch.
        folder: name of its run folder, below the batch's folder of runs.
        prompt: the words to draw.
        seed: of the first image.
        place: where it was read, as messages name it.
        written: the words with their wildcards; empty where there are none.
        choices: what the wildcards became.
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
        """What batch.json holds of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """The job of `as_json`. Raises TypeError, KeyError and ValueError for anything else."""
        choices = (Choice(c["wildcard"], tuple(c["chosen"])) for c in values["choices"])
        job = cls(**{**values, "choices": tuple(choices)})
        texts = (job.id, job.folder, job.prompt, job.place, job.written, job.negative)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is missing")
        if not (isinstance(job.seed, int) and isinstance(job.extra, Mapping)):
            raise TypeError("a seed or columns are missing")
        if job.folder in ("", ".", "..") or Path(job.folder).name != job.folder:
            raise ValueError(f"the folder {job.folder!r} is not in the batch's own")
        return job


def read(
    prompts: Path | str | Sequence[Path | str],
    *,
    column: str | None = None,
    skip_bad: bool = False,
) -> list[Entry]:
    """The entries of prompt files or of texts.

    Arguments:
        prompts: Paths of prompt files, or texts.
        column: of the files, with the prompts in it; None: the first that has a usual name.
        skip_bad: leave out, with a warning, the rows that cannot be read.

    Raises UsageError for what cannot be read, and for files and texts together.
    """
    items = [prompts] if isinstance(prompts, Path | str) else list(prompts)
    paths = [item for item in items if isinstance(item, Path)]
    if paths and len(paths) < len(items):
        raise UsageError("files and texts together", "give Paths of prompt files, or only texts")
    if not paths:
        return _texts([str(text) for text in items])
    # Path("-") is how the command line names standard input.
    sources = [rows.STDIN if str(path) == rows.STDIN else path for path in paths]
    entries, skipped = promptfile.read(sources, column=column, skip_bad=skip_bad)
    for row in skipped:
        logger.warning("%s is left out: %s", row.place, row.reason)
    return entries


def _texts(texts: Sequence[str]) -> list[Entry]:
    if not texts:
        raise UsageError("no prompts", "give texts, or Paths of prompt files")
    for text in texts:
        if Path(text).suffix and paths.is_file(text):
            raise UsageError(f"{text} is a file", f"give Path({text!r}) to read it")
    return [Entry(str(row), text, TEXTS, row, 0) for row, text in enumerate(texts, 1)]


def of_entries(entries: Sequence[Entry], seed: int, wildcards: Wildcards | None) -> list[Job]:
    """The job of each entry, in order.

    Arguments:
        entries: the prompts as written.
        seed: of entries that have none.
        wildcards: what to expand them with, which is a warning; None leaves every text as it is.

    Raises UsageError, which names the entry's place.
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
    """The id itself where it is a safe name everywhere; else what is left of it, and a hash."""
    name = slug(id_)
    if name == id_:
        return name
    digest = hashlib.sha256(id_.encode(errors="surrogatepass")).hexdigest()[:8]
    return "-".join(filter(None, (name, digest)))


def read_shard(text: str) -> tuple[int, int]:
    """`2/3` as numbers. Raises UsageError for what is no part of a whole."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r} is no part", "2/3 is the second of three parts")
    return int(match[1]), int(match[2])


def shard(jobs: Sequence[Job], part: int, parts: int) -> list[Job]:
    """Every `parts`-th of the jobs, from the `part`-th on, counted from 1."""
    return list(jobs[part - 1 :: parts])
