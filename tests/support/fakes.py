"""A generator and a critic without models, for tests that stage what should happen.

An image is one flat colour, which is the seed it was drawn from, so that a critic that sees only
the image can be told what to say of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from gcr.core.events import (
    Notice,
    PromptFinished,
    RoundFinished,
    RunFinished,
    RunStarted,
    WorkFinished,
    WorkStarted,
)
from gcr.core.records import (
    Candidate,
    Critique,
    Drawing,
    Objection,
    Preference,
    Rejected,
    Request,
    Requirement,
    Run,
    Wording,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCORES = {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8}
"""What a critic says of the images of a run's first seeds, where each is better than the last."""


def paint(seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (seed >> 16 & 255, seed >> 8 & 255, seed & 255))


def seed_of(image: Image.Image) -> int:
    """The seed an image of `paint` was drawn from."""
    return int.from_bytes(image.tobytes()[:3], "big")


class FakeGenerator:
    """Paints each candidate's seed, or its last mutation.

    faults: what is wrong with the image of a seed. obstacle: why it draws from noise only.
    """

    def __init__(self, faults: Mapping[int, str] | None = None, *, obstacle: str = "") -> None:
        self.faults = faults or {}
        self.limits = obstacle
        self.calls: list[list[Candidate]] = []
        self.starts: list[Image.Image | None] = []
        self.sources: list[Image.Image | None] = []

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image.Image | None] = (),
        sources: Sequence[Image.Image | None] = (),
    ) -> list[Drawing]:
        self.calls.append(list(candidates))
        self.starts += starts
        self.sources += sources
        seeds = [(c.seed, *c.mutations)[-1] for c in candidates]
        return [Drawing(paint(seed), self.faults.get(seed, "")) for seed in seeds]

    def obstacle(self, candidate: Candidate) -> str:
        return self.limits if candidate.start or candidate.mutations else ""

    def excess(self, prompt: str) -> str:
        words = len(prompt.split())
        return f"it has {words} words, and 12 are read" if words > 12 else ""


class FakeCritic:
    """Says what it was told of each seed: a critique, or only its overall score."""

    def __init__(
        self, says: Mapping[int, Critique | float | None], otherwise: float | None = 0.5
    ) -> None:
        self.says = says
        self.otherwise = otherwise
        self.rewrites: dict[str, str] = {}
        """What it writes when a refined prompt is complained of."""
        self.wordings: dict[int, Wording] = {}
        """What it would draw next, knowing all that was tried, by the index of the last round."""
        self.second: dict[int, Wording] = {}
        """The same, when the first was complained of."""
        self.complaints: list[str] = []
        self.calls: list[list[tuple[Request, int]]] = []
        self.sources: list[Image.Image | None] = []
        """What each image was judged or objected to beside."""
        self.overlaps = False

    def can_overlap(self) -> bool:
        return self.overlaps

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image.Image],
        sources: Sequence[Image.Image | None] = (),
    ) -> list[Critique]:
        self.calls.append([(r, seed_of(i)) for r, i in zip(requests, images, strict=True)])
        self.sources += sources
        return [self._say(seed_of(image)) for image in images]

    def _say(self, seed: int) -> Critique:
        said = self.says.get(seed, self.otherwise)
        if isinstance(said, Critique):
            return said
        if said is None:
            return Critique(raw="?", problem="unreadable reply")
        return Critique(overall=said, refined=f"the prompt after {seed}", raw="fine")

    def rewrite(self, objections: Sequence[Objection]) -> list[str | None]:
        self.complaints += [objection.complaint for objection in objections]
        self.sources += [objection.source for objection in objections]
        return [self.rewrites.get(o.critique.refined or "") for o in objections]

    def reword(
        self, runs: Sequence[Run], rejected: Sequence[Rejected] = ()
    ) -> list[Wording | None]:
        self.complaints += [before.complaint for before in rejected]
        words = self.second if rejected else self.wordings
        return [words.get(len(run.rounds) - 1) for run in runs]

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[float]:
        return [0.5 for _ in zip(images, questions, strict=True)]

    def take_apart(self, requests: Sequence[Request]) -> list[tuple[Requirement, ...]]:
        return [() for _ in requests]

    def compare(
        self,
        requests: Sequence[Request],
        firsts: Sequence[Image.Image],
        seconds: Sequence[Image.Image],
    ) -> list[Preference | None]:
        """Prefers the higher score, as the images were judged."""
        scores = [
            [self._say(seed_of(image)).overall or 0.0 for image in pair]
            for pair in zip(firsts, seconds, strict=True)
        ]
        return [
            Preference.TIE if a == b else Preference.FIRST if a > b else Preference.SECOND
            for a, b in scores
        ]


class Recorder:
    """A consumer that keeps all events, and tells them in a word or two.

    stop_at: the round after which it interrupts, as Ctrl-C does.
    """

    def __init__(self, stop_at=None):
        self.events = []
        self.stop_at = stop_at

    def __call__(self, event):
        self.events.append(event)
        if isinstance(event, RoundFinished) and event.run.rounds[-1].index == self.stop_at:
            raise KeyboardInterrupt

    @property
    def told(self):
        return [words for event in self.events if (words := in_words(event))]

    @property
    def notices(self):
        return [event for event in self.events if isinstance(event, Notice)]


def in_words(event):  # noqa: PLR0911 - one for each kind
    match event:
        case Notice(message, _):
            return f"warn {message}"
        case WorkStarted(total, done):
            return f"begin {total}, {done} done"
        case WorkFinished():
            return "end"
        case RunStarted():
            return "begin"
        case RoundFinished(run, _):
            return f"round {run.rounds[-1].index}"
        case RunFinished(run, _, _):
            return f"end {run.stop}"
        case PromptFinished(result):
            return f"{result.id} {result.failure or result.stop}"
    return ""
