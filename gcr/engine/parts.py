"""What takes part in runs of some settings: models, strategy, and the rule that ends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gcr.core import stopping, strategies
from gcr.core.events import Consumer, Notice
from gcr.core.records import Critic, Generator
from gcr.core.stopping import StopRule
from gcr.critic import ocr, rubric
from gcr.engine import models
from gcr.engine.settling import compared, settled
from gcr.errors import UsageError
from gcr.settings import plugins
from gcr.settings.address import is_address
from gcr.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gcr.core.records import Preference
    from gcr.storage.runfolder import RunFolder


@dataclass(frozen=True, slots=True)
class Parts:
    """What takes part in runs of these settings.

    revisions: of the models, by the role they play.
    """

    settings: Settings
    generator: Generator
    critic: Critic
    strategy: strategies.BaseStrategy
    rule: StopRule
    revisions: Mapping[str, str | None]

    def can_overlap(self) -> bool:
        """Whether the critic is to judge some runs while images of others are drawn, as things are.

        Never under a budget of seconds: those of two models that work at once are no measure.
        """
        asked = self.settings.overlap
        wanted = is_address(self.settings.critic) if asked is None else asked
        return wanted and self.settings.max_seconds is None and self.critic.can_overlap()

    def compared(self, folders: Sequence[RunFolder], emit: Consumer) -> list[Preference | None]:
        """As `settling.compared`, once it is settled which image is best; None for all where the
        settings want none.
        """
        asked = folders if self.settings.compare else ()
        pairwise = self.settings.select == "pairwise"
        open_to_choice = folders if pairwise else asked
        images = settled(open_to_choice, self.critic, emit, by_pairs=pairwise)
        for folder, image in zip(open_to_choice, images, strict=True):
            folder.run = replace(folder.run, settled=image)
        return compared(asked, self.critic, emit) or [None] * len(folders)


def with_rubric(settings: Settings) -> tuple[Settings, rubric.Rubric]:
    """The settings as their rubric allows them, and the rubric.

    Raises UsageError where images are to be compared, and the rubric has no words to ask with,
    where critiques are left out that something rests on, and where what is to verify is not
    installed; GcrError for a strategy of another distribution that cannot be imported.
    """
    if settings.verify == ocr.NAME:
        ocr.check()
    questions = rubric.load(settings.rubric)
    if settings.critique == "best":
        _check_critiques_can_be_left_out(settings)
    if settings.select == "pairwise" and not questions.comparison:
        raise UsageError(
            f"the rubric {questions.name} has no comparison, which --select pairwise asks for",
            "leave --select out, or take another rubric",
        )
    if not questions.comparison:
        settings = replace(settings, compare=False)
    if not (questions.history and plugins.strategy(settings.strategy).uses_history):
        settings = replace(settings, history=False)
    return settings, questions


def _check_critiques_can_be_left_out(settings: Settings) -> None:
    if settings.score != "checklist":
        raise UsageError(
            f"--score {settings.score} is read from critiques, which --critique best leaves out",
            "give --score checklist, or --critique all",
        )
    if settings.strategy == "rewrite" and settings.images > 1:
        raise UsageError(
            "--strategy rewrite goes on from each image's critique, of which --critique best has "
            "one in each round",
            "give --images 1, --critique all, or --strategy refine",
        )


def load(  # noqa: PLR0913 - as `load_models` has them
    settings: Settings,
    questions: rubric.Rubric,
    emit: Consumer,
    *,
    edit: bool = False,
    negative: bool = False,
    prompts: Collection[str] = (),
) -> Parts:
    """Load the models, and make what goes with them. Takes and raises what `load_models` does."""
    pair = models.load_models(
        settings, questions, emit, edit=edit, negative=negative, prompts=prompts
    )
    return parts_of(settings, *pair, emit, prompts)


def parts_of(
    settings: Settings,
    generator: Generator,
    critic: Critic,
    emit: Consumer,
    prompts: Collection[str] = (),
) -> Parts:
    """What goes with models that are loaded already, for such prompts. Raises UsageError where the
    generator could do what the strategy needs with other settings.
    """
    rule = stopping.rule(settings.recorded())
    strategy = _strategy(settings, generator, emit)
    revisions = models.revisions(settings, critic, prompts)
    return Parts(settings, generator, critic, strategy, rule, revisions)


def _strategy(settings: Settings, generator: Generator, emit: Consumer) -> strategies.BaseStrategy:
    """The strategy that was chosen, or `refine` where the generator cannot draw what it proposes.

    Raises UsageError where it could with other settings.
    """
    kind = plugins.strategy(settings.strategy)
    chosen = strategies.make(kind, settings.images, settings.seed, settings.strength)
    obstacle = generator.obstacle(chosen.later())
    if not obstacle:
        return chosen
    emit(
        Notice(
            f"the strategy {settings.strategy} falls back to refine: {obstacle}",
            "nothing to do, unless you want another --generator",
        )
    )
    return strategies.Refine(settings.images, settings.seed)
