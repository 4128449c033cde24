"""Pairs of images of which one is preferred, for preference training such as DPO.

The user decides before the critic. Every two images that are rated differently (`gcr rate`) make a
pair; keep counts as 5, discard as 1. An image that was kept as the best of its run (`--approve`,
`gcr ui`) is preferred to those that there were then: to the request as it is and to the one of the
highest score, or with `every` to each. Where the two are rated differently that counts, and not
that one was kept. Elsewhere the critic's scores decide.

Both images of a pair are of one run, and its prompt is the user's request, which both were judged
against, whatever rewritten prompt either was drawn from. What is no clear preference is left out
and counted:

    unscored       one of the two has no score
    too close      the first is not better by more than the critic's noise, or than --min-gap
    untrusted      the critic does not understand all of the request
    rated alike    the user has rated both the same
    unlike         the two were judged by different checklists, as old runs can have them
    contradicted   the critic, shown both side by side without scores, preferred the other

`preference`, as JSON lines or Parquet:

    prompt                            the user's request
    chosen, rejected                  the images: paths in JSON lines; in Parquet the files
                                      themselves, which `datasets` opens as its Image feature
    chosen_score, rejected_score      0-1
    chosen_critique, rejected_critique
                                      aspects (aspect, score 1-4, justification), summary, advice
    chosen_prompt, rejected_prompt    what each image was drawn from
    chosen_seed, rejected_seed
    preferred_by                      user or critic
    source                            rated, kept or scored: what that rests on
    chosen_rating, rejected_rating    the user's, 1-5, where there are any
    id, run                           of the prompt, and the run's folder

`pick-a-pic`, as Parquet: the columns of Pick-a-Pic (Kirstain et al., 2023) that the trainers of
Diffusion-DPO (Wallace et al., 2023) and of diffusers read. jpg_0, jpg_1: the files themselves, the
better one first; caption, label_0, label_1, has_label; and score_0, score_1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Literal

from gcr.core import ranking
from gcr.core.ranking import best_scored, margin
from gcr.core.records import Attempt, Preference, Run
from gcr.errors import GcrError, UsageError
from gcr.files.atomic import read, replacing, write, writing
from gcr.files.locks import claimed
from gcr.storage import batchfolder, ratings, runfolder
from gcr.storage.batchfolder import BatchFolder, Summary
from gcr.storage.runfolder import RunFolder

ROUNDING = 1e-9  # 0.6 - 0.4 is less than 0.2
SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "preference": (".jsonl", ".parquet"),
    "pick-a-pic": (".parquet",),
}
Source = Literal["rated", "kept", "scored"]
Preferred = tuple[Attempt, Attempt, Source]
"""Two attempts of a run, the better one first, and what that rests on."""
ROWS = 32  # of one row group: all of their images are held in memory at once


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one run.

    Attributes:
        id: of the prompt in its batch, or of the run.
        prompt: the user's request.
        folder: of the run.
        chosen: the better attempt.
        rejected: the other one.
        stars: of the user's ratings of the two, 1-5; 0 for none.
        source: what it rests on: the user's ratings, the user's choice of the best image, or the
            critic's scores.
    """

    id: str
    prompt: str
    folder: Path
    chosen: Attempt
    rejected: Attempt
    stars: tuple[int, int] = (0, 0)
    source: Source = "scored"


@dataclass(frozen=True, slots=True)
class Preferences:
    """The pairs of some folders.

    Attributes:
        pairs: in the order of the folders and of their prompts.
        runs: how many were looked at.
        left_out: how many pairs or prompts were left out, by reason.
    """

    pairs: tuple[Pair, ...]
    runs: int
    left_out: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        """JSON values of all but the pairs themselves."""
        return {"pairs": len(self.pairs), "runs": self.runs, "left_out": dict(self.left_out)}

    def summary(self) -> str:
        """One line for a person."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        counts = f"pairs: {len(self.pairs)}, of runs: {self.runs}"
        return f"{counts}; left out: {reasons}" if reasons else counts


def gather(folders: Sequence[Path], *, every: bool = False, min_gap: float = 0.0) -> Preferences:
    """The pairs of batches and single runs.

    Arguments:
        folders: of runs and batches; of a batch the prompts that are done are used.
        every: compare every two images of a run, and not only its best one and its first.
        min_gap: how far the two scores must be apart, 0-1.

    Raises UsageError for a folder that is neither, that is named twice, or that a process is at
    work in, and for a run that edits an image.
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
            stars = {name: rating.stars for name, rating in ratings.read(path).items()}
            by_user = _by_user(run, stars, every=every)
            left_out["rated alike"] += sum(pair is None for pair in by_user.values())
            preferred = [pair for pair in by_user.values() if pair]
            preferred += _by_score(run, min_gap, left_out, by_user.keys(), every=every)
            pairs += [
                Pair(
                    id_,
                    run.request.prompt,
                    path,
                    chosen,
                    rejected,
                    (stars.get(chosen.image, 0), stars.get(rejected.image, 0)),
                    source,
                )
                for chosen, rejected, source in preferred
            ]
    return Preferences(tuple(pairs), runs, dict(+left_out))


def _runs(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, Path, Run]]:
    """The runs of a run's or a batch's folder: id, folder, run."""
    if (folder / batchfolder.NAME).exists():
        summary = Summary(folder)
        summary.refresh()
        for job in BatchFolder.open(folder).jobs:
            result = summary.results.get(job.id)
            if result is None or result.failure:
                left_out["prompts failed" if result else "prompts not done yet"] += 1
            else:
                yield job.id, folder / result.folder, _ended(folder / result.folder)
    elif (folder / runfolder.NAME).exists():
        with claimed(folder):  # RunFolder.open mends a line that another process may be writing
            run = _ended(folder)
        yield run.id, folder, run
    else:
        raise UsageError(
            f"no run and no batch in {folder}",
            "name a folder that gcr refine or gcr batch made, or one arm's of a comparison",
        )


def _ended(path: Path) -> Run:
    """A run, with what run.json holds of its end."""
    _, story = runfolder.read_beginning(path)
    return runfolder.with_end(RunFolder.open(path).run, story, path)


def _by_user(
    run: Run, stars: Mapping[str, int], *, every: bool
) -> dict[frozenset[str], Preferred | None]:
    """What the user prefers, by the names of the two images; None: both are rated the same."""
    worse = _worse_than_kept(run, every=every)
    decided: dict[frozenset[str], Preferred | None] = {}
    for pair in combinations(run.attempts, 2):
        first, second = sorted(pair, key=lambda a: stars.get(a.image, 0), reverse=True)
        better, other = stars.get(first.image, 0), stars.get(second.image, 0)
        images = frozenset((first.image, second.image))
        if better > other > 0:
            decided[images] = first, second, "rated"
        elif run.kept in images and images & worse:
            chosen, rejected = pair if pair[0].image == run.kept else pair[::-1]
            decided[images] = chosen, rejected, "kept"
        elif better == other > 0:
            decided[images] = None
    return decided


def _worse_than_kept(run: Run, *, every: bool) -> set[str]:
    """Images to which the user prefers the one that was kept; none where none was.

    They are among those that there were when it was kept: who kept it had seen no later ones.
    """
    if not run.kept or not run.rounds:
        return set()
    when = next((b.after for b in reversed(run.branches) if b.image == run.kept), len(run.rounds))
    seen = [attempt for finished in run.rounds[:when] for attempt in finished.attempts]
    worse = seen if every else [ranking.raw(run), *ranking.ranked(seen)[:1]]
    return {attempt.image for attempt in worse} - {run.kept}


def _by_score(
    run: Run,
    min_gap: float,
    left_out: Counter[str],
    decided: Collection[frozenset[str]],
    *,
    every: bool,
) -> Iterator[Preferred]:
    """What the critic prefers of a run. decided: the two images of which the user has decided."""
    if not run.rounds:
        left_out["unscored"] += 1
        return
    noise, best, raw = margin(run.attempts), best_scored(run), ranking.raw(run)
    ranked = ranking.ranked(run.attempts)
    is_kept = any(attempt.image == run.kept for attempt in run.attempts)
    usual = [] if is_kept else [(best or raw, raw)]  # of what was kept, that is the user's
    for better, other in combinations(ranked, 2) if every else usual:
        if frozenset((better.image, other.image)) in decided:
            continue
        if better.score is None or other.score is None:
            left_out["unscored"] += 1
            continue
        gap = better.score - other.score
        if run.untrusted:
            left_out["untrusted"] += 1
        elif _questions(better) != _questions(other):
            left_out["unlike"] += 1
        elif gap <= noise or gap < min_gap - ROUNDING:
            left_out["too close"] += 1
        elif run.comparison is Preference.FIRST and (better, other) == (best, raw):
            left_out["contradicted"] += 1
        else:
            yield better, other, "scored"


def _questions(attempt: Attempt) -> set[str]:
    return {requirement.question for requirement in attempt.critique.requirements}


# Files


@dataclass(frozen=True, slots=True)
class PairFile:
    """A file of pairs that was written.

    Attributes:
        form: its format, one of SUFFIXES.
        path: where it is.
        preferences: the pairs in it, and what was left out.
    """

    form: str
    path: Path
    preferences: Preferences

    def as_json(self) -> dict[str, object]:
        """What `gcr export --json` prints."""
        return {"format": self.form, "file": str(self.path), **self.preferences.as_json()}


def export(
    folders: Sequence[Path],
    form: str,
    output: Path | None = None,
    *,
    every: bool = False,
    min_gap: float = 0.0,
) -> PairFile:
    """Write the pairs of batches and runs.

    Arguments:
        folders: of runs and batches.
        form: the format, one of SUFFIXES.
        output: the file; None: in the only folder, named after the format.
        every: as in `gather`.
        min_gap: as in `gather`.

    Raises UsageError for a file name whose ending is of another format, GcrError where there is no
    pair.
    """
    if output is None and len(folders) > 1:
        raise UsageError("several folders, and no --output", "name the file of pairs")
    path = output or folders[0] / f"{form}{SUFFIXES[form][0]}"
    _check(form, path)
    preferences = gather(folders, every=every, min_gap=min_gap)
    if not preferences.pairs:
        raise GcrError(
            f"there is no pair to export: {preferences.summary()}",
            "a smaller --min-gap or more prompts may find some, and so may gcr rate"
            if every
            else "--all-pairs may find some, and so may a smaller --min-gap or more prompts",
        )
    save(preferences.pairs, form, path)
    return PairFile(form, path, preferences)


def _check(form: str, path: Path) -> None:
    """Raise UsageError where the file could not be written; cheap, so done before runs are read."""
    suffixes = SUFFIXES[form]
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            f"{path} is no name for {form}: a file is known by its ending",
            f"one of {', '.join(suffixes)}",
        )
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError("no pyarrow to write Parquet", "pip install 'gcr[parquet]'")


def save(pairs: Sequence[Pair], form: str, path: Path) -> None:
    """Write all of the file or none of it; what was there before is replaced."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".jsonl":
        lines = (json.dumps(_line(pair), ensure_ascii=False, allow_nan=False) for pair in pairs)
        write(path, "".join(f"{line}\n" for line in lines).encode())
    else:
        _save_parquet(pairs, form, path)


def _line(pair: Pair) -> dict[str, object]:
    chosen, rejected = (
        str((pair.folder / attempt.image).resolve()) for attempt in (pair.chosen, pair.rejected)
    )
    return {"prompt": pair.prompt, "chosen": chosen, "rejected": rejected, **_columns(pair)}


def _columns(pair: Pair) -> dict[str, object]:
    """All columns but the prompt and the images."""
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    return {
        **{f"{side}_score": attempt.score for side, attempt in sides.items()},
        **{f"{side}_critique": _critique(attempt) for side, attempt in sides.items()},
        **{f"{side}_prompt": attempt.candidate.prompt for side, attempt in sides.items()},
        **{f"{side}_seed": attempt.candidate.seed for side, attempt in sides.items()},
        "preferred_by": "critic" if pair.source == "scored" else "user",
        "source": pair.source,
        "chosen_rating": pair.stars[0] or None,
        "rejected_rating": pair.stars[1] or None,
        "id": pair.id,
        "run": str(pair.folder.resolve()),
    }


def _critique(attempt: Attempt) -> dict[str, object]:
    critique = attempt.critique
    aspects = [asdict(aspect) for aspect in critique.aspects]
    return {"aspects": aspects, "summary": critique.summary, "advice": critique.advice}


def _save_parquet(pairs: Sequence[Pair], form: str, path: Path) -> None:
    from pyarrow import Table, parquet

    schema = _schema() if form == "preference" else _pick_a_pic_schema()
    row = _row if form == "preference" else _pick_a_pic_row
    remaining = iter(pairs)
    with replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(remaining, ROWS)):
            writer.write_table(Table.from_pylist([row(pair) for pair in group], schema=schema))


def _row(pair: Pair) -> dict[str, object]:
    images = {
        side: {"bytes": _content(pair, attempt), "path": attempt.image}
        for side, attempt in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return {"prompt": pair.prompt, **images, **_columns(pair)}


def _pick_a_pic_row(pair: Pair) -> dict[str, object]:
    return {
        "caption": pair.prompt,
        "jpg_0": _content(pair, pair.chosen),
        "jpg_1": _content(pair, pair.rejected),
        "label_0": 1.0,
        "label_1": 0.0,
        "has_label": True,
        "score_0": pair.chosen.score,
        "score_1": pair.rejected.score,
    }


def _content(pair: Pair, attempt: Attempt) -> bytes:
    return read(pair.folder / attempt.image)


def _schema() -> Any:
    """The columns, with the metadata by which `datasets` opens the images."""
    import pyarrow as pa

    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    aspect = pa.struct({"aspect": pa.string(), "score": pa.float64(), "justification": pa.string()})
    critique = pa.struct(
        {"aspects": pa.list_(aspect), "summary": pa.string(), "advice": pa.string()}
    )
    columns: dict[str, Any] = {"prompt": pa.string(), "chosen": image, "rejected": image}
    for name, kind in (
        ("score", pa.float64()),
        ("critique", critique),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
    ):
        columns |= {f"{side}_{name}": kind for side in ("chosen", "rejected")}
    columns |= {"preferred_by": pa.string(), "source": pa.string()}
    columns |= {f"{side}_rating": pa.int64() for side in ("chosen", "rejected")}
    columns |= {"id": pa.string(), "run": pa.string()}
    features = {side: {"_type": "Image"} for side in ("chosen", "rejected")}
    return pa.schema(columns).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def _pick_a_pic_schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        {
            "caption": pa.string(),
            "jpg_0": pa.binary(),
            "jpg_1": pa.binary(),
            "label_0": pa.float64(),
            "label_1": pa.float64(),
            "has_label": pa.bool_(),
            "score_0": pa.float64(),
            "score_1": pa.float64(),
        }
    )
