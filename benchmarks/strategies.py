"""What choices of the loop are worth: the embedded pair, with truth as the evaluator.

    python -m benchmarks.strategies averaging   the mean of several judgements
    python -m benchmarks.strategies selection   the best image by blind comparisons of pairs
    python -m benchmarks.strategies screening   critiques of the best images alone
    python -m benchmarks.strategies stopping    an end once an image meets every requirement
    python -m benchmarks.strategies curve       accuracy against images for every strategy

All of them are paired by request. `docs/strategies.md` has what came of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from benchmarks import refinement
from gcr.comparison import statistics
from gcr.core import ranking
from gcr.core.events import ignore
from gcr.core.records import Candidate, Preference, Request, Run
from gcr.core.stopping import StopRule
from gcr.core.strategies import STRATEGIES, BestOfN, Refine
from gcr.critic import pairwise, rubric
from gcr.engine.models import load_models
from gcr.files.atomic import write
from gcr.pocket import truth
from gcr.pocket.language import parse
from gcr.settings.resolving import GOOD_CHANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from benchmarks.refinement import Arm
    from gcr.core.ranking import Pair
    from gcr.core.records import Critic, Critique, Strategy
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.drawing.generator import DiffusersGenerator
    from gcr.settings.schema import Score, Settings

Count = Annotated[int, typer.Option(help="Requests.")]
Images = Annotated[int, typer.Option(help="Images for each request, at most.")]
Name = Annotated[str, typer.Option(help="Which requests: any word is another set.")]
HeldOut = Annotated[bool, typer.Option(help="Ask for pairs nobody trained on.")]
Output = Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")]
P = ParamSpec("P")

app = typer.Typer(add_completion=False)


def as_shipped(
    score: Score = "reply",
) -> tuple[Settings, DiffusersGenerator, VisionLanguageCritic]:
    """The embedded pair, and its settings. score: where scores come from."""
    chosen = replace(refinement.as_shipped(), score=score)
    return chosen, *load_models(chosen, rubric.load(chosen.rubric), ignore)


def finding(differences: list[float]) -> str:
    """A difference in words: its mean, its interval, and how many requests won and lost."""
    (found,) = statistics.judge([differences])
    low, high = found.interval or (0.0, 0.0)
    return (
        f"{found.difference:+.3f} [{low:+.3f}, {high:+.3f}], "
        f"{found.wins} won, {found.losses} lost, {found.ties} equal: {found.verdict.value}"
    )


def save(output: Path | None, figures: Mapping[str, object]) -> None:
    if output is not None:
        write(output, json.dumps(figures, indent=1).encode() + b"\n")


# Averaging


SINGLE = "the likeliest reply"
SLACK = 1e-9  # scores are sums of thirds


def right_about_pairs(scores: Sequence[float], flaws: Sequence[int]) -> list[float]:
    """Of each pair of images that differ in flaws, whether the scores order it so; a tie counts
    half.
    """
    return [
        0.5 if scores[a] == scores[b] else float((scores[a] > scores[b]) == (flaws[a] < flaws[b]))
        for a, b in combinations(range(len(flaws)), 2)
        if flaws[a] != flaws[b]
    ]


def scored(
    critic: VisionLanguageCritic, wave: Sequence[Candidate], images: Sequence[Image], judges: int
) -> tuple[list[float], float]:
    """The score of each image, and the seconds that one took. Raises ValueError where a reply could
    not be read.
    """
    critic.judges = judges
    began = time.perf_counter()
    critiques = critic.judge([Request(candidate.prompt) for candidate in wave], images)
    seconds = (time.perf_counter() - began) / len(images)
    scores = [critique.overall for critique in critiques if critique.overall is not None]
    if len(scores) != len(critiques):
        raise ValueError(f"{len(critiques) - len(scores)} replies could not be read")
    return scores, seconds


@app.command()
def averaging(
    count: Count = 60,
    images: Images = 6,
    name: Name = "mean",
    held_out: HeldOut = False,
    output: Output = None,
) -> None:
    """Whether the mean of several sampled judgements finds better images.

    The same images, scored by the likeliest reply, and by the mean of N sampled replies
    (`--judges N`). Truth says which of two images has fewer flaws, and whether the image of the
    highest score is right.
    """
    _, generator, critic = as_shipped()
    prompts = refinement.requests(count, name, held_out=held_out)
    seeds = range(refinement.SEED, refinement.SEED + images)
    wave = [Candidate(prompt, seed) for prompt in prompts for seed in seeds]
    drawn = [drawing.image for drawing in generator.draw(wave)]
    flaws = [
        truth.compare(parse(candidate.prompt), truth.look(image)).flaws
        for candidate, image in zip(wave, drawn, strict=True)
    ]
    figures: dict[str, object] = {"requests": count, "set": name, "images": images}
    ways: dict[str, list[float]] = {}
    for judges in (1, 2, 4, 8):
        way = SINGLE if judges == 1 else f"mean of {judges}"
        ways[way], figures[f"{way}: seconds an image"] = scored(critic, wave, drawn, judges)
    groups = [slice(i, i + images) for i in range(0, len(wave), images)]
    pairs, picks = {}, {}
    for way, values in ways.items():
        right = [right_about_pairs(values[group], flaws[group]) for group in groups]
        pairs[way] = {i: fmean(each) for i, each in enumerate(right) if each}
        best = [max(range(images), key=values[group].__getitem__) for group in groups]
        picks[way] = [float(flaws[group][i] == 0) for i, group in zip(best, groups, strict=True)]
        figures |= {
            f"{way}: right about pairs": fmean(side for each in right for side in each),
            f"{way}: chosen image right": fmean(picks[way]),
        }
        for target in (1.0, GOOD_CHANCE):
            reached = [value >= target - SLACK for value in values]
            for kind, flawless in (("right", True), ("wrong", False)):
                some = [f for f, flaw in zip(reached, flaws, strict=True) if (not flaw) is flawless]
                figures[f"{way}: {kind} images that reach {target}"] = fmean(some)
        if way != SINGLE:
            more = [pairs[way][i] - once for i, once in pairs[SINGLE].items()]
            better = [a - b for a, b in zip(picks[way], picks[SINGLE], strict=True)]
            figures[f"{way}: right about pairs, against {SINGLE}"] = finding(more)
            figures[f"{way}: chosen image right, against {SINGLE}"] = finding(better)
    for key, value in figures.items():
        typer.echo(f"{key}: {value}")
    save(output, figures)


# Selection


def preferences(arm: Arm, pairs: Sequence[Pair], critic: Critic) -> list[Preference | None]:
    """The critic's blind preference for pairs of images of an arm's runs."""
    return pairwise.blind(
        critic,
        [arm[i][0].request for i, _, _ in pairs],
        [arm[i][1][first.image].image for i, first, _ in pairs],
        [arm[i][1][second.image].image for i, _, second in pairs],
    )


def selected(arm: Arm, critic: Critic) -> dict[str, object]:
    """What both ways of choosing come to by truth, and their difference."""
    fields = [ranking.contenders(run.attempts) for run, _ in arm]
    began = time.perf_counter()
    winners = ranking.knock_out(fields, lambda pairs: preferences(arm, pairs, critic))
    seconds = time.perf_counter() - began
    choices = [
        (judged[field[0].image], judged[winner.image])
        for (_, judged), field, winner in zip(arm, fields, winners, strict=True)
        if winner is not None
    ]
    right = [float(pair.right) - float(score.right) for score, pair in choices]
    flaws = [float(score.flaws - pair.flaws) for score, pair in choices]
    return {
        "requests without a score": len(arm) - len(choices),
        "right by score": fmean(score.right for score, _ in choices),
        "right by pairs": fmean(pair.right for _, pair in choices),
        "best possible": fmean(any(j.right for j in judged.values()) for _, judged in arm),
        "right, pairs against score": finding(right),
        "fewer flaws, pairs against score": finding(flaws),
        "other image chosen": fmean(score is not pair for score, pair in choices),
        "seconds a request": seconds / len(arm),
    }


def agreement(arm: Arm, critic: Critic) -> dict[str, float]:
    """How often score and preference find the image with fewer flaws, of all pairs of scored images
    that differ in them; a tie counts half.
    """
    pairs = [
        (i, first, second)
        for i, (run, judged) in enumerate(arm)
        for first, second in combinations(ranking.contenders(run.attempts), 2)
        if judged[first.image].flaws != judged[second.image].flaws
    ]
    said = preferences(arm, pairs, critic)
    by_score, by_pair = [], []
    for (i, first, second), preference in zip(pairs, said, strict=True):
        a, b = arm[i][1][first.image], arm[i][1][second.image]
        better = Preference.FIRST if a.flaws < b.flaws else Preference.SECOND
        by_pair.append(0.5 if preference in (None, Preference.TIE) else float(preference is better))
        # The higher score comes first.
        equal = first.score == second.score
        by_score.append(0.5 if equal else float(better is Preference.FIRST))
    return {
        "pairs that differ": len(pairs),
        "score right about them": fmean(by_score),
        "pairs right about them": fmean(by_pair),
        "pairs without preference": fmean(p in (None, Preference.TIE) for p in said),
    }


@app.command()
def selection(
    count: Count = 60,
    images: Images = 8,
    name: Name = "pairs",
    held_out: HeldOut = False,
    output: Output = None,
) -> None:
    """Whether choosing the best image by pairs finds better ones.

    The same images and the same critic: once the image of the highest score counts as the best,
    once the winner of blind comparisons in both orders (`--select pairwise`).
    """
    chosen, generator, critic = as_shipped()
    prompts = refinement.requests(count, name, held_out=held_out)
    patient = StopRule(images // chosen.images, chosen.target, images, chosen.min_gain)
    seed = refinement.SEED
    arms: dict[str, tuple[Strategy, StopRule]] = {
        "refine": (Refine(chosen.images, seed), patient),
        "best-of-n": (BestOfN(images, seed), StopRule(rounds=1)),
    }
    figures: dict[str, object] = {"requests": count, "set": name, "images": images}
    for arm_name, (strategy, rule) in arms.items():
        arm = refinement.play(prompts, generator, critic, strategy, rule)
        for key, value in (selected(arm, critic) | agreement(arm, critic)).items():
            figures[f"{arm_name}: {key}"] = value
            typer.echo(f"{arm_name}: {key}: {value}")
    save(output, figures)


# Screening


class Clocked:
    """A critic, and the seconds of this process at work that judging takes it: those on the clock
    also count whatever else the machine does.
    """

    def __init__(self, critic: Critic) -> None:
        self.seconds = 0.0
        self.judge = self._clocked(critic.judge)
        self.screen = self._clocked(critic.screen)
        self.can_overlap = critic.can_overlap
        self.compare, self.reword = critic.compare, critic.reword
        self.rewrite, self.tokens = critic.rewrite, critic.tokens

    def _clocked(self, judge: Callable[P, list[Critique]]) -> Callable[P, list[Critique]]:
        def clocked(*args: P.args, **kwargs: P.kwargs) -> list[Critique]:
            began = time.process_time()
            critiques = judge(*args, **kwargs)
            self.seconds += time.process_time() - began
            return critiques

        return clocked


def screened(arm: Arm, seconds: float) -> dict[str, float]:
    """What an arm came to. seconds: of judging in all."""
    attempts = [attempt for run, _ in arm for attempt in run.attempts]
    return {
        "right": refinement.accuracy(arm, "best"),
        "flaws": fmean(best.flaws for _, best in refinement.ends(arm)),
        "images a request": len(attempts) / len(arm),
        "critiques a request": sum(bool(a.critique.raw) for a in attempts) / len(arm),
        "seconds of judging an image": seconds / len(attempts),
    }


def against(first: Arm, second: Arm) -> dict[str, str]:
    """How much better the second arm's best images are."""
    both = zip(refinement.ends(first), refinement.ends(second), strict=True)
    pairs = [(a, b) for (_, a), (_, b) in both]
    return {
        "right": finding([float(b.right) - float(a.right) for a, b in pairs]),
        "fewer flaws": finding([float(a.flaws - b.flaws) for a, b in pairs]),
    }


@app.command()
def screening(
    count: Count = 120,
    images: Images = 8,
    a_round: Annotated[int, typer.Option(help="Images in each round.")] = 2,
    name: Name = "screen",
    output: Output = None,
) -> None:
    """What critiques of the best images alone cost and save.

    The same requests are refined from the same first images three times:

    screened  a checklist for each image, a critique of the best of each round (`--critique best`)

    all       the same with a critique of each image (`--score checklist`)

    reply     a critique of each image, which also has its score
    """
    chosen, generator, critic = as_shipped()
    prompts = refinement.requests(count, name, held_out=False)
    rule = StopRule(images // a_round, chosen.target, images, chosen.min_gain)
    told: dict[str, object] = {"requests": count, "set": name, "images": images}
    arms: dict[str, Arm] = {}
    kinds: list[tuple[str, Score, float]] = [
        ("screened", "checklist", GOOD_CHANCE),
        ("all", "checklist", GOOD_CHANCE),
        ("reply", "reply", chosen.target),
    ]
    for arm, critic.score, target in kinds:
        clocked = Clocked(critic)
        strategy, stop = Refine(a_round, refinement.SEED), replace(rule, target=target)
        screen = arm == "screened"
        arms[arm] = refinement.play(prompts, generator, clocked, strategy, stop, screen=screen)
        told[arm] = screened(arms[arm], clocked.seconds)
        typer.echo(f"{arm}: {json.dumps(told[arm])}")
        if not screen:
            key = f"screened against {arm}"
            told[key] = against(arms[arm], arms["screened"])
            typer.echo(f"{key}: {json.dumps(told[key])}")
    save(output, told)


# Stopping


Stops = Callable[[Run], bool]


def meets_all(run: Run, least: float) -> bool:
    """Whether an image of the run meets each requirement with at least this chance."""
    checklists = (attempt.critique.requirements for attempt in run.attempts)
    return any(every and all((r.chance or 0.0) >= least for r in every) for every in checklists)


def either(rule: StopRule, least: float) -> Stops:
    return lambda run: rule.reason(run) is not None or meets_all(run, least)


def stopped(run: Run, stops: Stops) -> Run:
    """The run as it had been under a rule that stops earlier: its first rounds."""
    lengths = range(1, len(run.rounds) + 1)
    starts = (replace(run, rounds=run.rounds[:length], stop=None) for length in lengths)
    return next((start for start in starts if stops(start)), run)


@app.command()
def stopping(
    count: Count = 60,
    name: Name = "stop",
    held_out: HeldOut = False,
) -> None:
    """Whether a run may stop once an image meets every requirement.

    With checklist scores: the same runs, as they would have ended under the target of such scores
    and under rules that also stop where each answer is at least so sure.
    """
    chosen, generator, critic = as_shipped("checklist")
    prompts = refinement.requests(count, name, held_out=held_out)
    patient = StopRule(chosen.rounds, 1.0, chosen.rounds, chosen.min_gain)
    strategy = Refine(chosen.images, refinement.SEED)
    arm = refinement.play(prompts, generator, critic, strategy, patient)
    default = StopRule(chosen.rounds, GOOD_CHANCE, chosen.patience, chosen.min_gain)
    rules: dict[str, Stops] = {"the target": lambda run: default.reason(run) is not None}
    rules |= {f"or all met at {least}": either(default, least) for least in (0.5, 0.8, 0.9)}
    right: dict[str, list[float]] = {}
    for rule, stops in rules.items():
        ends = [(stopped(run, stops), judged) for run, judged in arm]
        bests = [(ranking.best(run), judged) for run, judged in ends]
        right[rule] = [float(judged[best.image].right) for best, judged in bests if best]
        images = fmean(len(run.attempts) for run, _ in ends)
        typer.echo(f"{rule}: right {fmean(right[rule]):.3f}, images {images:.2f}")
        pairs = zip(right[rule], right["the target"], strict=True)
        typer.echo(f"{rule}: right, against the target: {finding([a - b for a, b in pairs])}")


# Curve


AT = 8
"""Images at which stopping early, and what is reported at the end, are looked at."""


def first(run: Run, images: int) -> Run:
    """The run as it was when it had drawn so many images."""
    rounds, left = [], images
    for round_ in run.rounds:
        if left > 0:
            rounds.append(replace(round_, attempts=round_.attempts[:left]))
            left -= len(round_.attempts)
    return replace(run, rounds=tuple(rounds))


def cut(arm: refinement.Arm, images: int) -> refinement.Arm:
    return [(first(run, images), judged) for run, judged in arm]


def figures(arm: refinement.Arm) -> dict[str, float]:
    """The share of right picks, the share of requests with any right image, and, for each request,
    images and seconds on average.
    """
    every = [(run, judged) for run, judged in arm if run.attempts]
    return {
        "right": round(refinement.accuracy(arm, "best"), 4),
        "any right": round(
            fmean(any(judged[a.image].right for a in run.attempts) for run, judged in every), 4
        ),
        "images": round(fmean(len(run.attempts) for run, _ in every), 2),
        "seconds": round(
            fmean(sum(a.draw_seconds + a.judge_seconds for a in run.attempts) for run, _ in every),
            2,
        ),
    }


def reported(arm: refinement.Arm, critic: Critic) -> dict[str, float]:
    """How often an improvement on the raw image is reported, and how often that is false.

    Reported: another image has the best score, and the critic prefers it in the blind comparison.
    False: truth finds as much wrong with it as with the raw image, or more. The shares of false
    ones are of those reported.
    """
    told = equal = worse = 0
    for run, judged in arm:
        raw, best = ranking.raw(run), ranking.best(run)
        if raw is None or best is None or raw == best:
            continue
        before, after = judged[raw.image], judged[best.image]
        said = pairwise.blind(critic, [run.request], [before.image], [after.image])
        if said == [Preference.SECOND]:
            told += 1
            equal += after.flaws == before.flaws
            worse += after.flaws > before.flaws
    return {
        "improvements reported": round(told / len(arm), 4),
        "of them no better": round(equal / max(1, told), 4),
        "of them worse": round(worse / max(1, told), 4),
    }


def mixes() -> Mapping[str, Strategy]:
    """Ways to share out the images of a round between rewritten prompts and the best so far."""
    return {
        f"{images} a round, {again} of them again": Refine(images, refinement.SEED, again)
        for images, again in ((1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2))
    }


@app.command()
def curve(  # noqa: PLR0913, PLR0917 - one parameter for each option
    count: Count = 200,
    images: Images = 16,
    name: Name = "curve",
    held_out: HeldOut = True,
    mixed: Annotated[bool, typer.Option(help="Compare mixes of `refine` instead.")] = False,
    output: Output = None,
) -> None:
    """What images buy: accuracy against images for every strategy.

    The same requests and first seeds for all; truth judges what the critic picks from the first 1,
    2, 4, … images of each run. A run that reached the target draws no more.
    """
    chosen, generator, critic = as_shipped()
    prompts = refinement.requests(count, name, held_out=held_out)
    rule = StopRule(images, chosen.target, images, chosen.min_gain, images)
    early = replace(rule, patience=chosen.patience, images=AT)
    named = {name: kind(chosen.images, refinement.SEED) for name, kind in STRATEGIES.items()}
    told: dict[str, object] = {"requests": count, "set": name, "held out": held_out}
    for strategy, plan in (mixes() if mixed else named).items():
        arm = refinement.play(prompts, generator, critic, plan, rule)
        found = {f"{2**i}": figures(cut(arm, 2**i)) for i in range(images.bit_length())}
        found["stopped early"] = figures(refinement.stopped(arm, early))
        if not mixed:
            found["at the end"] = reported(cut(arm, AT), critic)
        told[strategy] = found
        typer.echo(f"{strategy}: {json.dumps(found)}")
        save(output, told)


if __name__ == "__main__":
    app()
