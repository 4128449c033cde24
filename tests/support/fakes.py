"""A generator and a critic without models, for tests that stage what should happen.

An image is one flat colour, which is the seed it was drawn from, so that a critic that sees only
the image can be told what to say of it.
"""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from gcr.core import guards
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
    AspectScore,
    Candidate,
    Critique,
    Drawing,
    Gallery,
    Objection,
    Preference,
    Rejected,
    Request,
    Run,
    Tokens,
    Wording,
)
from gcr.critic import reply, rubric
from gcr.critic.speaker import Reply
from gcr.errors import GcrError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from gcr.critic.rubric import Message
    from gcr.critic.speaker import Decoding
    from gcr.settings.address import Address

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
    refused: words of prompts that it cannot draw. fails: what it raises when it is to draw for the
    `at`-th time.
    """

    def __init__(
        self,
        faults: Mapping[int, str] | None = None,
        *,
        obstacle: str = "",
        refused: Collection[str] = (),
        fails: BaseException | None = None,
        at: int = 2,
    ) -> None:
        self.faults = faults or {}
        self.limits = obstacle
        self.refused = refused
        self.fails = fails
        self.at = at
        self.calls: list[list[Candidate]] = []
        self.starts: list[Image.Image | None] = []
        self.sources: list[Image.Image | None] = []

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image.Image | None] = (),
        sources: Sequence[Image.Image | None] = (),
    ) -> list[Drawing]:
        if self.fails and len(self.calls) + 1 == self.at:
            raise self.fails
        for candidate in candidates:
            if any(words in candidate.prompt for words in self.refused):
                raise GcrError(f"cannot draw {candidate.prompt}")
        self.calls.append(list(candidates))
        self.starts += starts
        self.sources += sources
        seeds = [(c.seed, *c.mutations)[-1] for c in candidates]
        return [Drawing(paint(seed), self.faults.get(seed, "")) for seed in seeds]

    @property
    def drawn(self) -> list[tuple[str, int]]:
        """The prompts and seeds of all that was drawn, in order."""
        return [(candidate.prompt, candidate.seed) for call in self.calls for candidate in call]

    def obstacle(self, candidate: Candidate) -> str:
        return self.limits if candidate.start or candidate.mutations else ""

    def excess(self, prompt: str) -> str:
        words = len(prompt.split())
        return f"it has {words} words, and 12 are read" if words > 12 else ""


def written(*texts: str) -> Image.Image:
    """A white image with black texts, each in a line of its own."""
    image = Image.new("RGB", (512, 512), "white")
    pen = ImageDraw.Draw(image)
    for place, text in enumerate(texts):
        pen.text((40, 80 + 110 * place), text, "black", ImageFont.load_default(48))
    return image


class Signwriter(FakeGenerator):
    """Writes what a prompt has in quotes; with one of two equal letters in a row left out, unless
    the prompt asks for block letters.
    """

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image.Image | None] = (),
        sources: Sequence[Image.Image | None] = (),
    ) -> list[Drawing]:
        self.calls.append(list(candidates))
        return [Drawing(written(*self._texts(candidate.prompt))) for candidate in candidates]

    def _texts(self, prompt: str) -> list[str]:
        texts = guards.quoted(prompt)
        if "block letters" in prompt:
            return texts
        return [re.sub(r"([A-Z])\1", r"\1", text) for text in texts]


class FakeMachine:
    """A machine as settings ask about it: by default one without a GPU, and without servers.

    gpu_gib: what its GPU has free. device: as its GPU calls itself. models: of servers, by URL.
    few_steps: why each generator counts as distilled. asked: what settings asked it for, and
    whether each server may have the key.
    """

    def __init__(
        self,
        gpu_gib: float = 0.0,
        device: str = "cpu",
        models: Mapping[str, str] | None = None,
        few_steps: Mapping[str, str] | None = None,
    ) -> None:
        self.gpu_gib = gpu_gib
        self.device = device
        self.models = models or {}
        self.few_steps = few_steps or {}
        self.asked: list[object] = []

    def free_gib(self) -> float:
        self.asked.append("memory")
        return self.gpu_gib

    def device_name(self) -> str:
        self.asked.append("device")
        return self.device

    def distilled(self, generator: str) -> str:
        return self.few_steps.get(generator, "")

    def model_at(self, server: Address, *, trusted: bool) -> str:
        self.asked.append((server.url, trusted))
        return self.models[server.url]


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
        self.screened: list[list[int]] = []
        self.sources: list[Image.Image | None] = []
        """What each image was judged or objected to beside."""
        self.overlaps = False
        self.used = Tokens()

    def can_overlap(self) -> bool:
        return self.overlaps

    def tokens(self) -> Tokens:
        return self.used

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image.Image],
        sources: Sequence[Image.Image | None] = (),
        scored: Sequence[Critique] = (),
    ) -> list[Critique]:
        self.calls.append([(r, seed_of(i)) for r, i in zip(requests, images, strict=True)])
        self.sources += sources
        self.used += Tokens(100 * len(images), 10 * len(images))
        said = [self._say(seed_of(image)) for image in images]
        scores = scored or said
        return [replace(c, overall=s.overall) for c, s in zip(said, scores, strict=True)]

    def screen(
        self,
        requests: Sequence[Request],
        images: Sequence[Image.Image],
        sources: Sequence[Image.Image | None] = (),
    ) -> list[Critique]:
        """Scores alone, as `judge` would give them."""
        self.screened.append([seed_of(image) for image in images])
        self.used += Tokens(50 * len(images), 0)
        return [Critique(overall=self._say(seed_of(image)).overall) for image in images]

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
        self,
        runs: Sequence[Run],
        rejected: Sequence[Rejected] = (),
        gallery: Gallery | None = None,
    ) -> list[Wording | None]:
        self.complaints += [before.complaint for before in rejected]
        words = self.second if rejected else self.wordings
        return [words.get(len(run.rounds) - 1) for run in runs]

    def compare(
        self,
        requests: Sequence[Request],
        firsts: Sequence[Image.Image],
        seconds: Sequence[Image.Image],
        sources: Sequence[Image.Image | None] = (),
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


class Interrupting(FakeCritic):
    """Ctrl-C, so many times, when it judges for the `at`-th time."""

    def __init__(self, at: int = 1, times: int = 1) -> None:
        super().__init__(SCORES)
        self.at = at
        self.times = times

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image.Image],
        sources: Sequence[Image.Image | None] = (),
        scored: Sequence[Critique] = (),
    ) -> list[Critique]:
        judged = super().judge(requests, images, sources, scored)
        if len(self.calls) == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return judged


@dataclass
class Pair:
    """What is there instead of models. loaded: how often they were loaded."""

    generator: FakeGenerator = field(default_factory=FakeGenerator)
    critic: FakeCritic = field(default_factory=lambda: FakeCritic(SCORES))
    loaded: int = 0

    def load(self, *_, **__):
        self.loaded += 1
        return self.generator, self.critic


def images(folder):
    """All images in a folder, by their paths in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*.png")
    }


def summary(folder):
    """The lines of a batch's summary by their ids, without times."""
    read = [json.loads(line) for line in (folder / "summary.jsonl").read_text().splitlines()]
    found = {line["id"]: {**line, "seconds": 0} for line in read}
    assert len(found) == len(read)
    return found


TRUE = {0: 0.1, 1: 0.2, 2: 0.5, 3: 0.9}
"""What an evaluator says of the images of a run's first seeds."""


@dataclass
class FakeEvaluator:
    """Says what it was told of an image's seed; counts what it measures."""

    says: dict = field(default_factory=lambda: dict(TRUE))
    most: int = 10_000
    measured: list = field(default_factory=list)

    def score(self, samples):
        for sample in samples:
            if len(self.measured) == self.most:
                raise GcrError("the evaluator ended with exit code 1")
            with Image.open(sample.image) as image:
                seed = seed_of(image.convert("RGB"))
            self.measured.append((sample.prompt, seed))
            yield sample.id, self.says.get(seed, 0.0)


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


POCKET = rubric.load("pocket")


class FakeSpeaker:
    """A model that a critic talks with. It keeps the chats that it was asked to reply to.

    says: the reply to a chat. yes: the probability of "yes" after one.
    """

    takes_pairs = True
    used = Tokens()

    def __init__(
        self,
        says: Callable[[list[Message]], str | Reply],
        yes: Callable[[list[Message]], float] = lambda _: 0.5,
    ) -> None:
        self.says = says
        self.chance_of_yes = yes
        self.calls: list[list[list[Message]]] = []

    @property
    def chats(self) -> list[list[Message]]:
        """All that were replied to, in order."""
        return [chat for call in self.calls for chat in call]

    def can_overlap(self) -> bool:
        return False

    def begin(self) -> None: ...

    def replies(self, chats: Sequence[list[Message]], decoding: Decoding) -> list[Reply]:
        self.calls.append(list(chats))
        replies = [self.says(chat) for chat in chats]
        return [Reply(r) if isinstance(r, str) else r for r in replies]

    def yes(self, chats: Sequence[list[Message]]) -> list[float]:
        return [self.chance_of_yes(chat) for chat in chats]


def images_in(chat: list[Message]) -> list[Image.Image]:
    """The images that a chat shows, in order."""
    parts = [part for message in chat for part in message["content"]]
    return [part["image"] for part in parts if part["type"] == "image"]


def text_of(chat: list[Message]) -> str:
    """The words of a chat's last message."""
    return "".join(part["text"] for part in chat[-1]["content"] if part["type"] == "text")


def replying(critic: FakeCritic) -> Callable[[list[Message]], str]:
    """Replies, as the embedded critic writes them, that say of images what a fake critic does."""

    def says(chat: list[Message]) -> str:
        images = images_in(chat)
        if len(images) == 2:
            (preference,) = critic.compare([], images[:1], images[1:])
            return f"Better: {preference}"
        (critique,) = critic.judge([Request("")], images)
        if critique.overall is None:
            return critique.raw
        score = 1 + 3 * critique.overall
        *scored, optional = (AspectScore(aspect, score) for aspect in POCKET.aspects)
        aspects = (*scored, replace(optional, score=None))
        return reply.write(replace(critique, aspects=aspects, raw=""), POCKET)

    return says
