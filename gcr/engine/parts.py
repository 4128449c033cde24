"""What takes part in runs of some settings: models, strategy, and the rule that ends them."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from gcr.core import stopping, strategies, syntax
from gcr.core.events import Consumer, Event, Notice, ignore
from gcr.core.records import Critic, Generator
from gcr.core.stopping import StopRule
from gcr.critic import ocr, rubric
from gcr.engine import models
from gcr.errors import UsageError
from gcr.settings import plugins
from gcr.settings.address import is_address
from gcr.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Collection

    from gcr.critic.critic import VisionLanguageCritic
    from gcr.drawing.generator import DiffusersGenerator


CHANGEABLE = frozenset(
    {
        *("profile", "chosen", "seed", "negative", "keep", "strategy", "strength", "rounds"),
        *("images", "target", "patience", "min_gain", "max_images", "max_seconds", "history"),
        *("compare", "select", "overlap", "output", "width", "height", "steps", "guidance", "call"),
        *("rubric", "score", "judges", "spread", "aspect", "critique", "format", "metadata"),
    }
)
"""Settings that can differ from run to run without a model being loaded anew."""


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


def with_rubric(settings: Settings) -> tuple[Settings, rubric.Rubric]:
    """The settings as their rubric allows them, and the rubric.

    Raises UsageError where images are to be compared, and the rubric has no words to ask with,
    where critiques are left out that something rests on, and where what is to verify is not
    installed; GcrError for a strategy of another distribution that cannot be imported.
    """
    if settings.verify == ocr.NAME:
        ocr.check()
    questions = rubric.load(settings.rubric)
    models.tastes(settings, questions)  # what is wrong with them is said before models load
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


class Warm:
    """Models that stay loaded from one run to the next.

    Where settings need other weights, or files of them were replaced, the old ones are given back
    first. Runs go one after another, in any thread. A context manager, at whose end the models are
    released.

    names: of the models that are loaded.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._pair: tuple[DiffusersGenerator, VisionLanguageCritic] | None = None
        self._critic: VisionLanguageCritic | None = None  # loaded alone
        self._weights = ""  # what these were loaded from
        self._use: object = None  # what the generator was loaded for
        self._revisions: Mapping[str, str | None] = {}  # of them, when they were loaded
        self._consumer: Consumer = ignore

    def load(
        self,
        settings: Settings,
        questions: rubric.Rubric,
        emit: Consumer,
        *,
        edit: bool = False,
        prompts: Collection[str] = (),
    ) -> Parts:
        """As `load`, with the models that are there, if they will do."""
        self._consumer = emit
        weights = _weights(settings, questions)
        use = edit, sorted(lora.name for prompt in prompts for lora in syntax.loras(prompt))
        if (
            self._pair
            and (self._weights, self._use) == (weights, use)
            and models.revisions(settings, self._pair[1], prompts) == self._revisions
        ):
            pair = models.adapt(*self._pair, settings, questions, self._tell)
        else:
            self.release()
            pair = models.load_models(settings, questions, self._tell, edit=edit, prompts=prompts)
        self._pair, self._weights, self._use = pair, weights, use
        self.names = (settings.generator, settings.critic)
        parts = parts_of(settings, *pair, emit, prompts)
        self._revisions = parts.revisions
        return parts

    def load_critic(
        self, settings: Settings, questions: rubric.Rubric, emit: Consumer
    ) -> VisionLanguageCritic:
        """As `models.load_critic`, with a critic that is there, if it will do."""
        self._consumer = emit
        weights = _weights(settings, questions)
        revision = models.revision(settings.critic)
        is_same = (self._weights, self._revisions.get("critic")) == (weights, revision)
        if self._pair and is_same:
            drawer, critic = self._pair
            return models.adapt_critic(critic, settings, questions, self._tell, drawer.device)
        if self._critic and is_same and not is_address(settings.critic):
            self._critic = models.judging_by(self._critic, settings, questions)
        else:
            self.release()
            self._critic = models.load_critic(settings, questions, self._tell)
        self._weights, self.names = weights, (settings.critic,)
        self._revisions = {"critic": revision}
        return self._critic

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the memory of the models back."""
        self._pair = self._critic = None
        self.names = ()
        gc.collect()  # models have cycles
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _tell(self, event: Event) -> None:
        """To whoever watches the run at hand: models report to whom they were loaded for."""
        self._consumer(event)


def _weights(settings: Settings, questions: rubric.Rubric) -> str:
    """What models are loaded from: every setting that is not known to be changeable in them."""
    values = {name: v for name, v in settings.as_json().items() if name not in CHANGEABLE}
    return json.dumps([values, questions.chat_template_kwargs], sort_keys=True, default=str)
