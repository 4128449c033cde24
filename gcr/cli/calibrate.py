"""`gcr calibrate`: how much of the critic's score is chance, and how far people agree with it."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import options
from gcr.cli.options import settings_only
from gcr.errors import UsageError

if TYPE_CHECKING:
    from gcr.diagnose.calibration import Card, Grade
    from gcr.settings.schema import Settings
    from gcr.ui.terminal import Terminal

JUDGES, IMAGES = 5, 2
LABELS = "Labels"

Prompts = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="What to draw and judge (default: a few of ours)."),
]
Judges = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="How often each image is judged (default: 5; 1 with --pairs).", min=1
    ),
]
Forget = Annotated[
    bool,
    options.switch(
        "--forget",
        "Measure nothing, and forget what was measured for this critic, rubric and score.",
    ),
]
Images = Annotated[
    int | None, typer.Option(metavar="N", help="Images for each prompt (default: 2).", min=1)
]

Pairs = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|FOLDER",
        parser=options.path,
        help="Measure against labels instead: pairs of images and which is better, or images and "
        "their scores, in the columns of MMRB2, GenAI-Bench, Pick-a-Pic or RichHF-18K, or of your "
        "own; JSON, CSV or Parquet, with images beside it or inside.",
        rich_help_panel=LABELS,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=options.text,
        help="The column of the labels (default: a usual name).",
        rich_help_panel=LABELS,
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Rows of it, evenly spread (default: all).", min=1, rich_help_panel=LABELS
    ),
]
SkipBad = Annotated[
    bool,
    options.switch(
        "--skip-bad", "Leave out rows that cannot be used, and list them.", panel=LABELS
    ),
]


@settings_only("profile", "generator", "critic", "rubric", "score", "seed", "quantize_critic")
def calibrate(
    prompts: Prompts = None,
    *,
    judges: Judges = None,
    images: Images = None,
    forget: Forget = False,
    pairs: Pairs = None,
    label: Label = None,
    most: Most = None,
    skip_bad: SkipBad = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    flags: Mapping[str, object],
) -> None:
    """Measure by how much the critic disagrees with itself about the same image, and remember it.

    From then on `gcr refine` with this critic, rubric and score stops when no round is better by
    more than that, and says which images are within chance of the best.

    With --pairs, measure how far the critic agrees with labels: image by image and two by two,
    what it costs, and how that compares with what was measured on the same labels before.
    """
    if pairs is not None and (prompts or images or forget):
        problem = "--pairs draws nothing and forgets nothing"
        raise UsageError(problem, "leave out prompts, --images and --forget")
    if pairs is None and (label or most or skip_bad):
        raise UsageError("--label, --most and --skip-bad are of --pairs", "name it, too")
    if pairs is None and judges == 1:
        raise UsageError("one judgement has no spread", "give --judges 2 or more")
    with options.watching(quiet=quiet) as terminal:
        if pairs is None:
            _calibrate(prompts, flags, judges, images, terminal, forget=forget, as_json=as_json)
        else:
            settings = {**flags, "judges": judges}
            _report(pairs, settings, label, most, terminal, skip_bad=skip_bad, as_json=as_json)


def _calibrate(
    prompts: list[str] | None,
    flags: Mapping[str, object],
    judges: int | None,
    images: int | None,
    terminal: "Terminal | None",
    *,
    forget: bool,
    as_json: bool,
) -> None:
    from gcr.core.events import ignore
    from gcr.core.phrases import count
    from gcr.critic import limits
    from gcr.critic import rubric as rubrics
    from gcr.diagnose import calibration
    from gcr.engine.machine import ThisMachine
    from gcr.engine.models import load_models
    from gcr.engine.requests import checked_prompt
    from gcr.settings.measurements import SPREADS, spread_key
    from gcr.settings.resolving import resolve

    settings = resolve({**flags, "judges": judges or JUDGES}, ThisMachine()).settings
    if forget:
        if prompts or judges or images:
            raise UsageError(
                "--forget measures nothing", "leave out prompts, --judges and --images"
            )
        _forget(settings, terminal, as_json=as_json)
        return
    asked = [checked_prompt(prompt) for prompt in prompts or calibration.prompts(settings)]
    for prompt in asked:
        limits.check(prompt, settings)
    pair = load_models(settings, rubrics.load(settings.rubric), terminal or ignore)
    found = calibration.measure_noise(asked, images or IMAGES, *pair, settings)
    if terminal:
        terminal.close()
    key = spread_key(settings.critic_measured, settings.rubric, settings.score)
    path = SPREADS.keep(os.environ, {key: found.spread})
    if as_json:
        typer.echo(
            json.dumps({"spread": found.spread, "images": found.images, "judges": found.judges})
        )
    else:
        typer.echo(f"{found.spread:.4f}")
    if terminal:
        said = (
            f"over {count(found.images, 'image')}, each judged {found.judges} times; kept in {path}"
        )
        terminal.say(f"standard deviation of a score, {said}")


def _forget(settings: "Settings", terminal: "Terminal | None", *, as_json: bool) -> None:
    """Forget one measurement, and say which; there may be none."""
    from gcr.settings.measurements import SPREADS, spread_key

    key = spread_key(settings.critic_measured, settings.rubric, settings.score)
    spread = SPREADS.forget(os.environ, key)
    if as_json:
        typer.echo(json.dumps({"forgotten": spread}))
    if terminal is None:
        return
    of = f"{settings.critic_measured}, rubric {settings.rubric}, score {settings.score}"
    if spread is None:
        terminal.say(f"nothing to forget: nothing was measured for {of}")
    else:
        terminal.say(f"forgotten: a standard deviation of {spread:.4f} for {of}")


def _report(
    pairs: Path,
    flags: Mapping[str, object],
    label: str | None,
    most: int | None,
    terminal: "Terminal | None",
    *,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Measure the critic against labels; show and keep what came of it."""
    from gcr.core.events import ignore
    from gcr.diagnose import calibration
    from gcr.engine.machine import ThisMachine
    from gcr.files import paths
    from gcr.inputs import labels
    from gcr.settings.resolving import resolve

    read = labels.read(pairs, label=label or "", most=most, skip_bad=skip_bad)
    settings = resolve(flags, ThisMachine(), edit=calibration.is_edits(read)).settings
    ways = calibration.ways_for(settings, chosen=flags.get("score") is not None)
    place = f"{paths.expanded(pairs).absolute()}" + (f" ({most} rows)" if most else "")
    card = calibration.report(read, place, settings, ways, terminal or ignore)
    path, before = calibration.keep(card, settings)
    if terminal:
        terminal.close()
    if as_json:
        told = {
            each.key: {way: asdict(found) for way, found in calibration.against(card, each).items()}
            for each in before
        }
        typer.echo(json.dumps({**card.as_json(), "against": told}))
        return
    _show(card, before)
    if terminal:
        for skipped in card.skipped:
            terminal.say(f"left out: {skipped}")
        terminal.say(f"kept in {path}, for others on the same labels to be held against")


def _show(card: "Card", before: list["Card"]) -> None:
    from gcr.core.phrases import count
    from gcr.diagnose import calibration

    parts = [count(card.prompts, "prompt"), count(card.images, "image"), count(card.pairs, "pair")]
    parts += [f"{card.label_ties} of them equal by label"] if card.label_ties else []
    parts += [f"{count(card.unlabelled, 'row')} without a label"] if card.unlabelled else []
    how = f"{card.precision or 'served'}, judges {card.judges}"
    typer.echo(f"{card.critic}, rubric {card.rubric}, {how}")
    typer.echo(f"{', '.join(parts)}: {card.labels}")
    typer.echo()
    headings = ("", "right", "95%", "ties", "unread", "seconds", "tokens", "")
    options.table(headings, [_row(way, grade) for way, grade in card.grades.items()])
    for each in before:
        typer.echo()
        how = f"{each.critic}, rubric {each.rubric}, {each.precision or 'served'}"
        typer.echo(f"against {how}, judges {each.judges}")
        rows = []
        for way, found in calibration.against(card, each).items():
            low, high = found.interval or (0.0, 0.0)
            points = f"{100 * (found.difference or 0.0):+.1f} points"
            rows.append(
                (way, points, f"{100 * low:+.1f} to {100 * high:+.1f}", found.verdict.value)
            )
        options.table(("", "right", "95%", ""), rows)


def _row(way: str, grade: "Grade") -> tuple[str, ...]:
    """A line of the table. The last cell has what only some ways have."""
    more = []
    if grade.tau is not None:
        more.append(f"tau {grade.tau:.2f}{_range(grade.tau_interval)}")
    if grade.spread is not None:
        more.append(f"spread {grade.spread:.3f}")
    if grade.first is not None:
        more.append(f"prefers the first {grade.first:.0%}{_range(grade.first_interval)}")
    if grade.split is not None:
        more.append(f"changes with the order {grade.split:.0%}")
    return (
        way,
        "–" if grade.accuracy is None else f"{grade.accuracy:.1%}",
        _range(grade.interval).strip() or "–",
        "–" if grade.ties is None else f"{grade.ties:.0%}",
        str(grade.unread),
        f"{grade.seconds:.2f}",
        "–" if grade.tokens is None else f"{grade.tokens:.0f}",
        ", ".join(more),
    )


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" {interval[0]:.2f}–{interval[1]:.2f}"
