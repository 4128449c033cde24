"""Files of preference pairs, as trainers read them.

`preference`, as JSON lines or Parquet:

    prompt                            the user's request
    chosen, rejected                  the images: paths in JSON lines; in Parquet the files
                                      themselves, which `datasets` opens as its Image feature
    chosen_score, rejected_score      0-1
    chosen_critique, rejected_critique
                                      aspects (aspect, score 1-4, justification), summary, advice
    chosen_prompt, rejected_prompt    what each was drawn from
    chosen_seed, rejected_seed
    id, run                           of the prompt, and the run's folder

`pick-a-pic`, as Parquet: the columns of Pick-a-Pic (Kirstain et al., 2023) that the trainers of
Diffusion-DPO (Wallace et al., 2023) and of diffusers read. jpg_0, jpg_1: the files themselves, the
better one first; caption, label_0, label_1, has_label; and score_0, score_1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.errors import GcrError, UsageError
from gcr.files.atomic import read, replacing, write, writing
from gcr.results.preferences import Pair, Preferences, gather

if TYPE_CHECKING:
    from gcr.core.records import Attempt

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "preference": (".jsonl", ".parquet"),
    "pick-a-pic": (".parquet",),
}
ROWS = 32  # of one row group: all of their images are held in memory at once


@dataclass(frozen=True, slots=True)
class PairFile:
    """A file of pairs that was written. found: what is in it, and what is not."""

    form: str
    path: Path
    found: Preferences

    def as_json(self) -> dict[str, object]:
        return {"format": self.form, "file": str(self.path), **self.found.as_json()}


def export(
    folders: Sequence[Path],
    form: str,
    output: Path | None = None,
    *,
    every: bool = False,
    min_gap: float = 0.0,
) -> PairFile:
    """Write the pairs of batches and runs. every, min_gap: as in `preferences.gather`.

    output: the file; None: in the only folder, named after the form. Raises UsageError for a name
    that says no known format, GcrError where there is no pair.
    """
    if output is None and len(folders) > 1:
        raise UsageError("several folders, and no --output", "name the file of pairs")
    path = output or folders[0] / f"{form}{SUFFIXES[form][0]}"
    _check(form, path)
    found = gather(folders, every=every, min_gap=min_gap)
    if not found.pairs:
        raise GcrError(
            f"there is no pair to export: {found.said()}",
            "--all-pairs may find some, and so may a smaller --min-gap or more prompts",
        )
    save(found.pairs, form, path)
    return PairFile(form, path, found)


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
    paths = [str((pair.folder / one.image).resolve()) for one in (pair.chosen, pair.rejected)]
    return {"prompt": pair.prompt, "chosen": paths[0], "rejected": paths[1], **_story(pair)}


def _story(pair: Pair) -> dict[str, object]:
    """All but the prompt and the images."""
    two = {"chosen": pair.chosen, "rejected": pair.rejected}
    return {
        **{f"{side}_score": attempt.score for side, attempt in two.items()},
        **{f"{side}_critique": _critique(attempt) for side, attempt in two.items()},
        **{f"{side}_prompt": attempt.candidate.prompt for side, attempt in two.items()},
        **{f"{side}_seed": attempt.candidate.seed for side, attempt in two.items()},
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
    waiting = iter(pairs)
    with replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while some := list(islice(waiting, ROWS)):
            writer.write_table(Table.from_pylist([row(pair) for pair in some], schema=schema))


def _row(pair: Pair) -> dict[str, object]:
    images = {
        side: {"bytes": _content(pair, attempt), "path": attempt.image}
        for side, attempt in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return {"prompt": pair.prompt, **images, **_story(pair)}


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
    """With what `datasets` needs to know to open the images."""
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
