"""What a person sees on stderr of a comparison: its arms as they are drawn, and what came of it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gcr.comparison.cost import Cost
from gcr.comparison.evaluators import labels
from gcr.comparison.figures import agreed, said
from gcr.comparison.statistics import Verdict
from gcr.core.events import ArmStarted, Event
from gcr.core.phrases import count
from gcr.core.plaintext import plain
from gcr.ui.batch_terminal import BatchTerminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gcr.comparison.figures import Pair
    from gcr.comparison.measuring import Comparison

SUSPECTS = 3  # that are named
STYLES = {
    Verdict.BETTER: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.NO_DIFFERENCE: "bold",
    Verdict.TOO_FEW: "yellow",
}


class CompareTerminal(BatchTerminal):
    """Shows a comparison on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._arm = ""
        self._warned: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ArmStarted):
            self._arm = event.name
        else:
            super().__call__(event)

    def begin(self, total: int, done: int) -> None:
        self._line(Text(plain(self._arm), "bold"))
        super().begin(total, done)

    def warn(self, message: str, hint: str) -> None:
        """Once: what is to be said of prompts is the same in every arm."""
        if (message, hint) not in self._warned:
            self._warned.add((message, hint))
            super().warn(message, hint)

    def tell(self, comparison: Comparison) -> None:
        """What came of it: in one sentence, then the arms, what may be said of each against the
        others, and suspects.
        """
        self._line(Text())
        if comparison.answer:
            self._line(Text(plain(comparison.answer), "bold"))
            self._line(Text())
        self.console.print(_arms(comparison))
        self._cost(comparison)
        few = []
        for category, group in groupby(comparison.pairs, lambda pair: pair.category):
            pairs = list(group)
            if category is None or any(pair.verdict is not Verdict.TOO_FEW for pair in pairs):
                self._pairs(plain(category or ""), pairs)
            else:
                few.append(plain(category))
        self._others(comparison)
        self._line(Text())
        if few:
            self._line(Text(f"too few prompts within {', '.join(few)}", "yellow"))
        self._suspects(comparison)
        self._untrusted(comparison)
        self.say(f"saved in {comparison.about.folder}")

    def _cost(self, comparison: Comparison) -> None:
        """What each arm took for a prompt, and what all had come to after equal seconds."""
        if any(arm.cost for arm in comparison.arms):
            self._line(Text())
            self.console.print(_costs(comparison))
        curves = comparison.curves
        if curves is not None and curves.equal_seconds is not None:
            means = ", ".join(f"{plain(n)} {m:.3f}" for n, m in curves.at_equal_seconds.items())
            words = f"after {curves.equal_seconds:.1f} s for each prompt: {means}"
            self._line(Text(words, "dim"))

    def _pairs(self, heading: str, pairs: Sequence[Pair]) -> None:
        self._line(Text())
        if heading:
            self._line(Text(heading, "bold"))
        for pair in pairs:
            self._line(Text(plain(said(pair)), STYLES[pair.verdict]))
            self._line(Text(f"  {_numbers(pair)}", "dim"))

    def _others(self, comparison: Comparison) -> None:
        """What the evaluators say that do not decide, and how far all agree."""
        for other in comparison.others:
            if set(other.means.values()) == {None}:
                continue  # its scorer is still to be run
            whole = [pair for pair in other.pairs if pair.category is None]
            self._pairs(f"by {plain(other.label)}", whole)
        lines = [agreed(one) for one in comparison.agreement if one.prompts]
        if lines:
            self._line(Text())
        for words in lines:
            self._line(Text(plain(words)))

    def _suspects(self, comparison: Comparison) -> None:
        """Where the critic was pleased and the evaluator was not, more often than by chance."""
        for pair in (pair for pair in comparison.suspicions if pair.founded):
            both = (pair.arm, pair.against)
            ids = [plain(one.id) for one in comparison.suspects if (one.arm, one.against) == both]
            more = f" and {len(ids) - SUSPECTS} more" if len(ids) > SUSPECTS else ""
            words = plain(
                f"on {pair.suspects} of {count(pair.prompts, 'prompt')} the critic prefers "
                f"{pair.arm} to {pair.against}, and the evaluator does not; the other way round on "
                f"{pair.opposite}: {', '.join(ids[:SUSPECTS])}{more}"
            )
            self._line(Text.assemble(("possible reward hacking: ", "bold yellow"), words))

    def _untrusted(self, comparison: Comparison) -> None:
        """Where the critic steered by a score that says nothing of some of the prompt."""
        marked = [
            plain(prompt.id)
            for prompt in comparison.prompts
            if any(shown.untrusted for shown in prompt.arms.values())
        ]
        if marked:
            more = f" and {len(marked) - SUSPECTS} more" if len(marked) > SUSPECTS else ""
            words = (
                f"on {len(marked)} of {count(len(comparison.prompts), 'prompt')} the critic does "
                f"not understand all that is asked: {', '.join(marked[:SUSPECTS])}{more}"
            )
            self._line(Text.assemble(("untrusted: ", "bold yellow"), words))

    def _line(self, text: Text) -> None:
        self.console.print(text, soft_wrap=not self.console.is_terminal)


def _arms(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", highlight=False)
    table.add_column("arm", no_wrap=True)
    evaluators = labels(comparison.about.evaluators)
    for column in (*map(plain, evaluators), "critic", "images", "seconds", "failed"):
        table.add_column(column, justify="right", no_wrap=True)
    for arm in comparison.arms:
        others = [other.means[arm.name] for other in comparison.others]
        means = map(_mean, (arm.mean, *others, arm.critic_mean))
        used = f"{arm.images:.1f}", f"{arm.seconds:.1f}"
        table.add_row(plain(arm.name), *means, *used, str(arm.failed))
    return table


def _costs(comparison: Comparison) -> Table:
    """For a prompt; seconds of drawing, judging and all else."""
    table = Table(box=None, pad_edge=False, header_style="dim", highlight=False)
    table.add_column("a prompt", no_wrap=True)
    for column in Cost.COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for arm in comparison.arms:
        if (cost := arm.cost) is not None:
            table.add_row(plain(arm.name), *cost.in_words().values())
    return table


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _numbers(pair: Pair) -> str:
    """What the verdict rests on."""
    told = []
    if pair.difference is not None:
        told.append(f"{pair.difference:+.3f} on average")
    if pair.interval is not None:
        told.append("95% interval {:+.3f} to {:+.3f}".format(*pair.interval))
    p = pair.p if pair.adjusted is None else pair.adjusted
    if p is not None:
        told.append("p < 0.001" if p < 0.001 else f"p {p:.3f}")
    told.append(f"{pair.wins} won, {pair.ties} tied, {pair.losses} lost")
    return " · ".join(told)
