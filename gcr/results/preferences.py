"""Pairs of images of which a critic likes one better, for preference training such as DPO.

Both images of a pair are of one run, and its prompt is the user's request, which both were judged
against, whatever rewritten prompt either was drawn from. What is no clear preference is left out
and counted:

    unscored       one of the two has no score
    too close      the first is not better by more than the critic's noise, or than was asked for
    untrusted      the critic does not understand all of the request
    unlike         the two were held against different checklists, as old runs can have them
    contradicted   the critic, who saw both side by side without scores, preferred the other
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from gcr.core import ranking
from gcr.core.ranking import best_scored, margin
from gcr.core.records import Attempt, Preference, Run
from gcr.errors import UsageError
from gcr.files.locks import claimed
from gcr.storage.batchfolder import NAME as BATCH
from gcr.storage.batchfolder import BatchFolder
from gcr.storage.runfolder import RunFolder, begun
from gcr.storage.summary import Summary

ROUNDING = 1e-9  # 0.6 - 0.4 is less than 0.2


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one run. id: of the prompt in its batch, or of the run; folder: of the run."""

    id: str
    prompt: str
    folder: Path
    chosen: Attempt
    rejected: Attempt


@dataclass(frozen=True, slots=True)
class Preferences:
    """Pairs, of how many runs they are, and how many were left out for which reason."""

    pairs: tuple[Pair, ...]
    runs: int
    left_out: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        """JSON values of all but the pairs themselves."""
        return {"pairs": len(self.pairs), "runs": self.runs, "left_out": dict(self.left_out)}

    def said(self) -> str:
        """In one line for a person."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        told = f"pairs: {len(self.pairs)}, of runs: {self.runs}"
        return f"{told}; left out: {reasons}" if reasons else told


def gather(folders: Sequence[Path], *, every: bool = False, min_gap: float = 0.0) -> Preferences:
    """The pairs of batches and single runs, in order.

    every: of every two images of a run, and not only of its best and the request as it is.
    min_gap: of the two scores, 0-1.

    Of a batch the prompts that are done count. Raises UsageError for a folder that is neither, that
    is named twice, or that a process is at work in, and for a run that edits an image.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a folder is named twice", "its pairs would count twice: name it once")
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    runs = 0
    for folder in folders:
        for id_, path, run in _runs(folder, left_out):
            if run.request.source:
                raise UsageError(
                    f"{path} edits an image, which a pair of images does not show",
                    "name runs and batches that draw from a prompt alone",
                )
            runs += 1
            found = _pairs(run, min_gap, left_out, every=every)
            pairs += [Pair(id_, run.request.prompt, path, *two) for two in found]
    return Preferences(tuple(pairs), runs, dict(left_out))


def _runs(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, Path, Run]]:
    """The runs of a folder that nobody is at work in, each with its id and its own folder."""
    if (folder / BATCH).exists():
        summary = Summary(folder)
        summary.refresh()
        for job in BatchFolder.open(folder).jobs:
            result = summary.results.get(job.id)
            if result is None or result.failure:
                left_out["prompts failed" if result else "prompts not done yet"] += 1
            else:
                yield job.id, folder / result.folder, _ended(folder / result.folder)
    elif (folder / "run.json").exists():
        with claimed(folder):  # opening cuts off a line that another process may be writing
            run = _ended(folder)
        yield run.id, folder, run
    else:
        raise UsageError(
            f"no run and no batch in {folder}",
            "name a folder that gcr refine or gcr batch made, or one arm's of a comparison",
        )


def _ended(path: Path) -> Run:
    """A run with what is known of it since it ended, if it has."""
    _, story = begun(path)
    comparison = story.get("comparison")
    return replace(
        RunFolder.open(path).run,
        comparison=Preference(comparison) if comparison else None,
        kept=str(story.get("kept") or ""),
        settled=str(story.get("settled") or ""),
    )


def _pairs(
    run: Run, min_gap: float, left_out: Counter[str], *, every: bool
) -> Iterator[tuple[Attempt, Attempt]]:
    """Attempts of a run, the better one first."""
    if not run.rounds:
        left_out["unscored"] += 1
        return
    noise, best, raw = margin(run.attempts), best_scored(run), ranking.raw(run)
    for one, other in (
        combinations(ranking.ranked(run.attempts), 2) if every else [(best or raw, raw)]
    ):
        if one.score is None or other.score is None:
            left_out["unscored"] += 1
            continue
        gap = one.score - other.score
        if run.untrusted:
            left_out["untrusted"] += 1
        elif _questions(one) != _questions(other):
            left_out["unlike"] += 1
        elif gap <= noise or gap < min_gap - ROUNDING:
            left_out["too close"] += 1
        elif run.comparison is Preference.FIRST and (one, other) == (best, raw):
            left_out["contradicted"] += 1
        else:
            yield one, other


def _questions(attempt: Attempt) -> set[str]:
    return {requirement.question for requirement in attempt.critique.requirements}
