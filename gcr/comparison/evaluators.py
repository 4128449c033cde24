"""Evaluators: what measures the results of a comparison, and never the critic that steered.

    truth              reads the embedded world's pictures: 1 right, 0 wrong
    vqascore:MODEL     probability of "yes", from another vision-language model (Lin et al., 2024)
    clipscore:MODEL    cosine of image and text, by a CLIP or SigLIP (Hessel et al., 2021)
    command:LINE       whatever the user's own program prints

Nothing the loop or the critic can reach may import this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.core.events import Loading
from gcr.core.phrases import nearest
from gcr.errors import UsageError
from gcr.hub import checkpoints, fetching
from gcr.settings import address, profiles

if TYPE_CHECKING:
    from gcr.core.events import Consumer
    from gcr.core.records import Evaluator

TRUTH, VQASCORE, CLIPSCORE, COMMAND = "truth", "vqascore", "clipscore", "command"
NAMES = (TRUTH, VQASCORE, CLIPSCORE, COMMAND)
CHOICES = (
    "vqascore:MODEL, clipscore:MODEL, command:LINE, or truth, which knows the embedded world only"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """An evaluator that was asked for. model: or a command line; empty for truth."""

    name: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.model}" if self.model else self.name

    def as_json(self) -> dict[str, str | None]:
        return {"name": self.name, "model": self.model or None}


def choose(text: str | None, generators: Iterable[str]) -> Choice:
    """The evaluator that a user named, or `truth` for images of the embedded generator alone.

    generators: that draw what is measured. Raises UsageError where there is no such evaluator.
    """
    foreign = [model for model in generators if not model.startswith(f"{profiles.EMBEDDED}:")]
    if text is None:
        if not foreign:
            return Choice(TRUTH)
        raise UsageError("no evaluator says which arm is better", f"--evaluator {CHOICES}")
    name, _, model = (part.strip() for part in text.partition(":"))
    if name not in NAMES:
        near = nearest(name, NAMES)
        hint = f"did you mean {near}? " if near else ""
        raise UsageError(f"no evaluator named {name!r}", f"{hint}there are {CHOICES}")
    if bool(model) == (name == TRUTH):
        raise UsageError(f"--evaluator {text!r} is not whole", f"there are {CHOICES}")
    if name == TRUTH and foreign:
        raise UsageError(f"truth cannot read what {foreign[0]} draws", f"--evaluator {CHOICES}")
    if name in {VQASCORE, CLIPSCORE} and (path := Path(model).expanduser()).is_dir():
        model = str(path.absolute())  # a comparison may be gone on with from elsewhere
    return Choice(name, model)


def check(
    choice: Choice, prompts: Iterable[str], critics: Iterable[str], *, force: bool = False
) -> None:
    """Raise what can be known to be wrong before anything is drawn.

    prompts: that are to be measured. critics: models that steered. force: let one of them measure.
    Raises UsageError; ModelError for a model that is nowhere.
    """
    if choice.name == TRUTH:
        from gcr.comparison import truth

        truth.check(prompts)
    elif choice.name != COMMAND:
        place = _same(choice.model)
        if any(place == _same(critic) for critic in critics) and not force:
            raise UsageError(
                f"{choice.model} is the critic that steers: it would praise its own taste",
                "name another model with --evaluator; --force measures with it all the same",
            )
        fetching.provide({choice.model: False})  # now, and not when all is drawn
        with checkpoints.named_errors(choice.model):
            checkpoints.fetch_file(place, "config.json")


def _same(model: str) -> str:
    """The same text for every spelling of a model, behind a server or not."""
    if address.is_address(model):
        model = address.parse(model).model
        if "/" not in model:
            return model
    place = checkpoints.locate(model)
    return str(Path(place).resolve()) if checkpoints.is_local(place) else place


def load(choice: Choice, emit: Consumer) -> Evaluator:
    """Load it. Raises ModelError and UsageError, as each does."""
    if choice.name == TRUTH:
        from gcr.comparison.truth import Truth

        return Truth()
    if choice.name == COMMAND:
        from gcr.comparison.command import Command

        return Command(choice.model)
    fetching.provide({choice.model: False})
    emit(Loading(choice.model))
    if choice.name == VQASCORE:
        from gcr.comparison import vqascore

        return vqascore.load(choice.model)
    from gcr.comparison import clipscore

    return clipscore.load(choice.model)
