"""What each way to ask the embedded critic gives: `python -m benchmarks.asking`.

Once with it and once without, on raw pictures of requests of the training world, by truth:

    checklist   a score from a checklist's answers, against the score of a critique
    comparison  two pictures in one question, against the scores of both
    complaint   a reply that broke off in the middle, asked for again
    objection   a refined request that must hold words of the request, asked for again
    history     the next request worded with all in view that was tried, against the refined one
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import refinement, strategies
from benchmarks.refinement import Arm, Judged, as_shipped, auc
from gcr.core.events import ignore
from gcr.core.records import Candidate, Objection
from gcr.core.stopping import StopRule
from gcr.core.strategies import BestOfN
from gcr.critic import reply, rubric
from gcr.critic.speaker import with_images
from gcr.engine.models import load_models
from gcr.files.atomic import write
from gcr.pocket import truth
from gcr.pocket.language import Group, Spec, parse
from pocket_training.captions import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.core.records import Critique, Generator, Request
    from gcr.critic.critic import VisionLanguageCritic

RIGHT = 4.0  # the first aspect's score of a picture that shows what was asked
HISTORY = "Request: {request}\n{tried}"
"""The embedded critic's rubric has no words to ask so with; these are the shortest."""
Figures = dict[str, float]


def checklist(arm: Arm, critic: VisionLanguageCritic) -> Figures:
    """How well scores tell right pictures from wrong ones, and better from worse ones."""
    by_reply = [(i, judged) for i, (_, field) in enumerate(arm) for judged in field.values()]
    critic.score = "checklist"
    critiques = critic.screen(
        [arm[i][0].request for i, _ in by_reply], [judged.image for _, judged in by_reply]
    )
    critic.score = "reply"
    by_list = [
        (i, replace(judged, attempt=replace(judged.attempt, critique=critique)))
        for (i, judged), critique in zip(by_reply, critiques, strict=True)
    ]
    without, within = [judged for _, judged in by_reply], [judged for _, judged in by_list]
    return {
        "AUC without": auc(without),
        "AUC with": auc(within),
        "pairs that differ, told apart without": _told_apart(by_reply),
        "pairs that differ, told apart with": _told_apart(by_list),
    }


def _told_apart(pictures: list[tuple[int, Judged]]) -> float:
    """Of the pairs of pictures of a request in which one is less wrong, how often its score is
    higher; equal scores count half. pictures: each with the number of its request.
    """
    told = []
    for (i, a), (j, b) in combinations(pictures, 2):
        if i == j and a.flaws != b.flaws:
            better, worse = sorted((a, b), key=lambda judged: judged.flaws)
            lead = (better.attempt.score or 0.0) - (worse.attempt.score or 0.0)
            told.append(0.5 + 0.5 * ((lead > 0) - (lead < 0)))
    return fmean(told)


def comparison(arm: Arm, critic: VisionLanguageCritic) -> Figures:
    """The same for what the critic says of two pictures, in both orders."""
    told = strategies.agreement(arm, critic)
    return {
        "pairs that differ, told apart without": told["score right about them"],
        "pairs that differ, told apart with": told["pairs right about them"],
        "without preference": told["pairs without preference"],
    }


def complaint(
    wrong: Sequence[Judged], requests: Sequence[Request], critic: VisionLanguageCritic
) -> Figures:
    """Replies that end in their middle, and those that the rubric's complaint gets."""
    asks = critic.rubric
    chats = [
        with_images(asks.messages(request), [judged.image], asks.max_pixels)
        for judged, request in zip(wrong, requests, strict=True)
    ]
    broken = [j.attempt.critique.raw[: len(j.attempt.critique.raw) // 4] for j in wrong]
    again = critic.speaker.replies(
        [asks.again(chat, text) for chat, text in zip(chats, broken, strict=True)],
        asks.decoding(),
    )
    first = [judged.attempt.critique for judged in wrong]
    cut = [reply.read(text, asks) for text in broken]
    second = [reply.read(r.text, asks) for r in again]
    return {
        "pictures": len(wrong),
        "read without": fmean(c.overall is not None for c in cut),
        "read with": fmean(c.overall is not None for c in second),
        "of wrong pictures called wrong, unbroken": fmean(map(_called_wrong, first)),
        "of wrong pictures called wrong, with": fmean(map(_called_wrong, second)),
    }


def _called_wrong(critique: Critique) -> bool:
    return bool(critique.aspects) and critique.aspects[0].score != RIGHT


def objection(
    wrong: Sequence[Judged],
    requests: Sequence[Request],
    generator: Generator,
    critic: VisionLanguageCritic,
) -> Figures:
    """Whether refined requests hold words of the request, and what is drawn by them."""
    rng = random.Random("objection")
    kept = [_words(parse(request.prompt), rng) for request in requests]
    first = [judged.attempt.critique.refined or "" for judged in wrong]
    second = critic.rewrite(
        [
            Objection(request, j.image, j.attempt.critique, f"it must hold, word for word: {words}")
            for request, j, words in zip(requests, wrong, kept, strict=True)
        ]
    )
    again = [text or "" for text in second]
    return {
        "pictures": len(wrong),
        "words held without": fmean(w in t for w, t in zip(kept, first, strict=True)),
        "words held with": fmean(w in t for w, t in zip(kept, again, strict=True)),
        "right without": _right(first, requests, generator),
        "right with": _right(again, requests, generator),
    }


def _words(spec: Spec, rng: random.Random) -> str:
    """A group of a request, without its places."""
    group: Group = rng.choice(spec.groups)
    return say(Spec((replace(group, places=()),)))


def _right(prompts: Sequence[str], requests: Sequence[Request], generator: Generator) -> float:
    """How many pictures drawn by these prompts show what the requests ask for; of none, none."""
    drawings = generator.draw(
        [
            Candidate(prompt or request.prompt, i)
            for i, (prompt, request) in enumerate(zip(prompts, requests, strict=True))
        ],
        [None] * len(prompts),
        [None] * len(prompts),
    )
    return fmean(
        bool(prompt) and truth.shows(drawing.image, parse(request.prompt))
        for prompt, drawing, request in zip(prompts, drawings, requests, strict=True)
    )


def history(arm: Arm, generator: Generator, critic: VisionLanguageCritic) -> Figures:
    """What the next picture of a run without a right one is, worded in both ways."""
    failed = [run for run, field in arm if not any(judged.right for judged in field.values())]
    requests = [run.request for run in failed]
    telling = critic.by(
        critic.rubric.model_copy(update={"history": HISTORY}),
        score=critic.score,
        judges=1,
        spread=None,
        tastes=(),
    )
    last = [run.attempts[-1].critique.refined or "" for run in failed]
    worded = [(wording and wording.prompt) or "" for wording in telling.reword(failed)]
    return {
        "runs": len(failed),
        "right without": _right(last, requests, generator),
        "a prompt with": fmean(map(bool, worded)),
        "right with": _right(worded, requests, generator),
    }


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 60,
    images: Annotated[int, typer.Option(help="Raw images of each.")] = 4,
    name: Annotated[str, typer.Option(help="Which requests: any word is another set.")] = "asking",
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Measure each way to ask the embedded critic, with it and without."""
    chosen = as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    prompts = refinement.requests(count, name, held_out=False)
    arm = refinement.play(
        prompts, generator, critic, BestOfN(images, refinement.SEED), StopRule(rounds=1)
    )
    firsts = [(next(j for j in field.values()), run.request) for run, field in arm]
    wrong = [(judged, request) for judged, request in firsts if not judged.right]
    pictures, requests = [judged for judged, _ in wrong], [request for _, request in wrong]
    told: dict[str, object] = {"requests": count, "set": name, "images": images}
    for key, figures in (
        ("checklist", checklist(arm, critic)),
        ("comparison", comparison(arm, critic)),
        ("complaint", complaint(pictures, requests, critic)),
        ("objection", objection(pictures, requests, generator, critic)),
        ("history", history(arm, generator, critic)),
    ):
        told[key] = {of: round(figure, 4) for of, figure in figures.items()}
        typer.echo(f"{key}: {json.dumps(told[key])}")
    if output is not None:
        write(output, json.dumps(told, indent=1).encode() + b"\n")


if __name__ == "__main__":
    typer.run(main)
