"""Judges images with a vision-language model, on this machine or behind an endpoint.

What is asked is the rubric's matter, how a model is talked to that of `speech` and `endpoint`, and
what was answered is for the readers to read: `reply`, `checklist` and `pairwise`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from gcr.core import history, spread
from gcr.critic import checklist, endpoint, expected_scores, pairwise, probe, reply
from gcr.critic.loading import Quantize
from gcr.critic.loading import load as load_model
from gcr.critic.local import LocalSpeaker
from gcr.critic.speaker import Manner, image_part, with_images
from gcr.device.threads import at_most
from gcr.errors import UsageError
from gcr.hub import checkpoints
from gcr.settings import address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import (
        Critique,
        Objection,
        Preference,
        Progress,
        Rejected,
        Request,
        Requirement,
        Run,
        Wording,
    )
    from gcr.critic.rubric import Message, Rubric
    from gcr.critic.speaker import Reply, Speaker
    from gcr.device.memory import SharedDevice

Score = Literal["reply", "soft", "checklist"]
"""Where scores come from: the numbers as written, what was expected in their place, or answers."""

JUDGES_TEMPERATURE = 0.7
"""Of several judgements by a rubric that takes the likeliest token: else all would be the same."""


def load(  # noqa: PLR0913 - what to load, how to ask, and where: none follows from another
    model: str,
    rubric: Rubric,
    device: SharedDevice,
    *,
    quantize: Quantize = "nf4",
    batch: int = 2,
    score: Score = "reply",
    judges: int = 1,
    progress: Progress | None = None,
    use: probe.Use | None = None,
) -> ModelCritic:
    """Load an image-text-to-text model from a hub id, a folder or `pocket:critic`, or connect to
    the server at an address.

    batch: images judged at once, at most. judges: how often each is judged. use: of a server.
    Raises ModelError for what cannot be loaded or reached, and for a model that cannot see images;
    UsageError for a server that does not take the key, or tells too little for this score.
    """
    if not address.is_address(model):
        local = _local(model, device, quantize, batch, progress)
        return ModelCritic(local, rubric, score, judges)
    use = use or probe.Use()
    speaker = endpoint.connect(
        model,
        batch=batch,
        likely=score != "reply",
        sample=use.sample(rubric),
        trusted=use.trusted,
        progress=progress,
        warn=use.warn,
    )
    critic = ModelCritic(speaker, rubric, score, judges)
    critic.compares = speaker.takes_pairs
    return critic


def _local(
    model: str, device: SharedDevice, quantize: Quantize, batch: int, progress: Progress | None
) -> LocalSpeaker:
    threads = checkpoints.threads(model)
    with at_most(threads):
        loaded, processor = load_model(model, device, quantize)
    with checkpoints.named_errors(model):
        return LocalSpeaker(
            loaded, processor, device, batch=batch, threads=threads, progress=progress
        )


class ModelCritic:
    """A model that is talked to, and the rubric it judges by."""

    def __init__(
        self, speaker: Speaker, rubric: Rubric, score: Score = "reply", judges: int = 1
    ) -> None:
        self._speaker = speaker
        self._rubric = rubric
        self._soft = score == "soft"
        self._judges = judges
        self.limit: int | None = None
        """Tokens that the pipeline reads of a prompt; the critic is told."""
        self.avoid = False
        """Whether to ask for negative prompts, which not all pipelines heed."""
        self.compares = True
        """Whether two images can be shown at once; where not, none are compared."""

    @property
    def speaker(self) -> Speaker:
        """What it talks with."""
        return self._speaker

    def can_overlap(self) -> bool:
        return self._speaker.can_overlap()

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        """Judge each image against its request, beside the source that was edited, if any.

        A reply that cannot be read is asked for once more; if that cannot be read either, the
        critique is unscored and its `problem` says why. Several judges are the same model, each
        with luck of its own.
        """
        chats = self._chats(requests, images, sources or [None] * len(images))
        self._speaker.begin()
        if self._judges == 1:
            return self._judged(chats, self._manner())
        heat = self._rubric.temperature or JUDGES_TEMPERATURE
        manners = [replace(self._manner(), temperature=heat, draw=i) for i in range(self._judges)]
        said = [self._judged(chats, manner) for manner in manners]
        return [spread.together(critiques) for critiques in zip(*said, strict=True)]

    def rewrite(self, objections: Sequence[Objection]) -> list[str | None]:
        """Ask for another refined request, in the conversation that led to the one complained of.

        A reply in the whole form is read like a critique; any other is the refined request itself.
        """
        asked = self._chats(
            [o.request for o in objections],
            [o.image for o in objections],
            [o.source for o in objections],
        )
        chats = [
            self._rubric.object(chat, objection.critique.raw, objection.complaint)
            for chat, objection in zip(asked, objections, strict=True)
        ]
        self._speaker.begin()
        return [
            reply.read_refined(said.text, self._rubric, cut_off=said.cut_off)
            for said in self._ask(chats)
        ]

    def reword(
        self, runs: Sequence[Run], rejected: Sequence[Rejected] = ()
    ) -> list[Wording | None]:
        """Ask for another refined request for each run, with all in view that was tried.

        None where the rubric has no words to ask with.
        """
        if not self._rubric.history:
            return [None] * len(runs)
        chats = [
            self._rubric.reword(run.request, history.told(run), self.limit, avoid=self.avoid)
            for run in runs
        ]
        if rejected:
            chats = [
                self._rubric.object(chat, before.prompt, before.complaint)
                for chat, before in zip(chats, rejected, strict=True)
            ]
        self._speaker.begin()
        return [
            reply.read_wording(said.text, self._rubric, cut_off=said.cut_off)
            for said in self._ask(chats)
        ]

    def answer(self, images: Sequence[Image], questions: Sequence[str]) -> list[float]:
        """The probability of "yes" against "no" as the first word of the answer.

        questions: one for each image, sent as they are.
        """
        asked = [
            [image_part(image), {"type": "text", "text": question}]
            for image, question in zip(images, questions, strict=True)
        ]
        return self._speaker.yes([[{"role": "user", "content": parts}] for parts in asked])

    def take_apart(self, requests: Sequence[Request]) -> list[tuple[Requirement, ...]]:
        """Ask for each request as a checklist, and once more where none can be read.

        Raises UsageError where the rubric has no words to ask with.
        """
        self._check(self._rubric.checklist, "checklist")
        chats = [self._rubric.take_apart(request) for request in requests]
        self._speaker.begin()
        said = self._ask(chats)
        lists = [checklist.read(told.text) for told in said]
        unread = [i for i, found in enumerate(lists) if not found]
        again = self._ask([self._rubric.again(chats[i], said[i].text) for i in unread])
        for i, told in zip(unread, again, strict=True):
            lists[i] = checklist.read(told.text)
        return lists

    def compare(
        self, requests: Sequence[Request], firsts: Sequence[Image], seconds: Sequence[Image]
    ) -> list[Preference | None]:
        """Ask which of two images is the better answer to each request, in this order only.

        None for all where two images are too many for the critic.
        Raises UsageError where the rubric has no words to ask with.
        """
        self._check(self._rubric.comparison, "comparison")
        if not self.compares:
            return [None] * len(requests)
        chats = [
            with_images(self._rubric.compare(request), [first, second])
            for request, first, second in zip(requests, firsts, seconds, strict=True)
        ]
        self._speaker.begin()
        return [pairwise.read(said.text) for said in self._ask(chats)]

    def _chats(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None],
    ) -> list[list[Message]]:
        return [
            with_images(
                self._rubric.messages(request, self.limit),
                [image] if source is None else [source, image],
            )
            for request, image, source in zip(requests, images, sources, strict=True)
        ]

    def _judged(self, chats: list[list[Message]], manner: Manner) -> list[Critique]:
        critiques = self._critiques(chats, manner)
        unread = [i for i, critique in enumerate(critiques) if critique.overall is None]
        again = [self._rubric.again(chats[i], critiques[i].raw) for i in unread]
        for i, critique in zip(unread, self._critiques(again, manner), strict=True):
            critiques[i] = critique
        return critiques

    def _critiques(self, chats: list[list[Message]], manner: Manner) -> list[Critique]:
        critiques = []
        for said in self._speaker.replies(chats, replace(manner, numbers=self._soft)):
            critique = reply.read(said.text, self._rubric, cut_off=said.cut_off)
            if self._soft:
                places = reply.places(said.text, self._rubric, cut_off=said.cut_off)
                critique = expected_scores.expected(critique, said, places)
            critiques.append(replace(critique, problem=said.withheld or critique.problem))
        return critiques

    def _ask(self, chats: list[list[Message]]) -> list[Reply]:
        return self._speaker.replies(chats, self._manner())

    def _manner(self) -> Manner:
        return Manner(self._rubric.max_new_tokens, self._rubric.temperature)

    def _check(self, words: str, key: str) -> None:
        if not words:
            raise UsageError(
                f"the rubric {self._rubric.name} has no {key}",
                f"add the key `{key}` to it: prompts/text-to-image.yaml shows the form",
            )
