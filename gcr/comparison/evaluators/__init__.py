"""Evaluators: what measures the results of a comparison, and never the critic that steered.

    truth              reads the embedded world's pictures: 1 right, 0 wrong
    vqascore:MODEL     probability of "yes", from another vision-language model (Lin et al., 2024)
    clipscore:MODEL    cosine of image and text, by a CLIP or SigLIP (Hessel et al., 2021)
    ocr, ocr-exact     whether quoted text of the request can be read in the image
    detect:MODEL       whether a zero-shot detector finds what the prompt's columns ask for
    command:LINE       whatever the user's own program prints

Each is a class as `gcr.core.records.Evaluator` has it. Other distributions add theirs with an entry
point in the group `gcr.evaluators`, whose name is the evaluator's. Nothing the loop or the critic
can reach may import this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.core.events import Loading
from gcr.errors import UsageError
from gcr.files import paths
from gcr.hub import checkpoints, fetching
from gcr.settings import address, plugins, profiles

if TYPE_CHECKING:
    from gcr.core.events import Consumer
    from gcr.core.records import Evaluator, Task

TRUTH = "truth"
SCORES = "scores"
"""Scores that are taken from the result files of a benchmark's own scorer, which users run."""
KINDS = plugins.Group(
    "gcr.evaluators",
    "evaluator",
    {
        "vqascore": f"{__name__}.builtin:VqaScore",
        "clipscore": f"{__name__}.builtin:ClipScore",
        "ocr": f"{__name__}.builtin:Ocr",
        "ocr-exact": f"{__name__}.builtin:OcrExact",
        "detect": f"{__name__}.detect:Detect",
        "command": f"{__name__}.builtin:Command",
        TRUTH: f"{__name__}.builtin:Truth",
    },
)


@dataclass(frozen=True, slots=True)
class Choice:
    """An evaluator that a user named.

    Attributes:
        name: of its class.
        model: its argument, which may be a command line; empty where it takes none.
    """

    name: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.model}" if self.model else self.name

    def as_json(self) -> dict[str, str | None]:
        return {"name": self.name, "model": self.model or None}


def choices() -> str:
    """What there is to choose from, for a person."""
    built_in = [_called(name, KINDS.load(name)) for name in KINDS.built_in if name != TRUTH]
    others = [name for name in KINDS.names() if name not in KINDS.built_in]
    listed = ", ".join([*built_in, *others])
    return f"{listed}, or {TRUTH}, which knows the embedded world only"


def _called(name: str, kind: type[Evaluator]) -> str:
    return f"{name}:{kind.takes}" if kind.takes else name


def kind_of(name: str) -> type[Evaluator]:
    """The class behind a name. Raises UsageError where there is none, GcrError for a broken one."""
    if name == SCORES:
        raise UsageError(f"no evaluator named {name!r}", f"there are {choices()}")
    kind: type[Evaluator] = KINDS.load(name, choices)
    return kind


def chosen(given: str | Sequence[str] | None, generators: Collection[str]) -> tuple[Choice, ...]:
    """The evaluators that a user named, each once; the first is the one that decides.

    As `choose` does, which see.
    """
    texts: Sequence[str | None] = [given] if isinstance(given, str) else given or [None]
    return tuple(dict.fromkeys(choose(text, generators) for text in texts))


def labels(choices: Sequence[Choice]) -> list[str]:
    """What tells evaluators apart: their names, with what they take where two have the same."""
    called = [choice.model if choice.name == SCORES else choice.name for choice in choices]
    return [
        name if called.count(name) == 1 else str(choice)
        for name, choice in zip(called, choices, strict=True)
    ]


def choose(text: str | None, generators: Iterable[str]) -> Choice:
    """The evaluator that a user named, or `truth` for images of the embedded generator alone.

    generators: that draw what is measured. Raises UsageError where there is no such evaluator.
    """
    foreign = [model for model in generators if not model.startswith(f"{profiles.EMBEDDED}:")]
    if text is None:
        if not foreign:
            return Choice(TRUTH)
        raise UsageError("no evaluator says which arm is better", f"--evaluator {choices()}")
    name, _, argument = (part.strip() for part in text.partition(":"))
    kind = kind_of(name)
    if bool(argument) != bool(kind.takes):
        whole = f"--evaluator {_called(name, kind)}"
        raise UsageError(f"--evaluator {text!r} is not whole", f"{whole}; there are {choices()}")
    if name == TRUTH and foreign:
        raise UsageError(f"truth cannot read what {foreign[0]} draws", f"--evaluator {choices()}")
    models = kind.models(argument)
    parts = [argument] if argument in models else argument.split(",")
    return Choice(name, ",".join(_from_anywhere(p) if p in models else p for p in parts))


def _from_anywhere(model: str) -> str:
    """The whole path of a folder: a comparison may be gone on with from elsewhere."""
    path = paths.expanded(model)
    return str(path.absolute()) if paths.is_folder(path) else model


def names_models(choice: Choice) -> bool:
    """Whether all that it takes is checkpoints, and none of it the user's own words."""
    if not choice.model or choice.name == SCORES:
        return True
    return bool(kind_of(choice.name).models(choice.model))


def check_apart(choices: Iterable[Choice], verifiers: Collection[str]) -> None:
    """Raise UsageError for an evaluator that would measure what it has verified in the loop.

    verifiers: of the arms, as `--verify` names them. Nothing lifts this, `--force` neither.
    """
    for choice in choices:
        if choice.name != SCORES and (name := kind_of(choice.name).verifier) in verifiers and name:
            raise UsageError(
                f"--evaluator {choice} cannot measure what --verify {name} steered: of course the "
                "loop draws what it then finds",
                "name another --evaluator, or draw without --verify",
            )


def check(
    choice: Choice, tasks: Sequence[Task], critics: Collection[str], *, force: bool = False
) -> None:
    """Raise what can be known to be wrong before anything is drawn.

    Arguments:
        choice: the evaluator.
        tasks: that are to be measured.
        critics: models that steered.
        force: let one of them measure.

    Raises UsageError; ModelError for a model that is nowhere.
    """
    kind = kind_of(choice.name)
    kind.check(choice.model, tasks)
    for model in kind.models(choice.model):
        place = _same(model)
        if any(place == _same(critic) for critic in critics) and not force:
            raise UsageError(
                f"{model} is the critic that steers: it would praise its own taste",
                "name another model with --evaluator; --force measures with it all the same",
            )
        fetching.provide({model: False})  # now, and not when all is drawn
        with checkpoints.named_errors(model):
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
    kind = kind_of(choice.name)
    for model in kind.models(choice.model):
        fetching.provide({model: False})
        emit(Loading(model))
    return kind.load(choice.model)
