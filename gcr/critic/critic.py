"""The critic: a vision-language model that judges images by a rubric.

    request and image ──rubric──▶ chat ──speaker──▶ reply ──reply, scoring──▶ critique

`VisionLanguageCritic` holds the parts, and `load` makes it. The rubric words what is asked, `local`
and `endpoint` talk to a model, `reply`, `checklist` and `pairwise` read what it says, and `scoring`
makes scores of that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from gcr.core import history, ranking
from gcr.core.records import Critique
from gcr.critic import checklist, endpoint, limits, ocr, pairwise, probe, reply, scoring, taste
from gcr.critic.loading import load as load_model
from gcr.critic.local import LocalSpeaker
from gcr.critic.speaker import image_part, with_images
from gcr.device.threads import at_most
from gcr.errors import UsageError
from gcr.hub import checkpoints
from gcr.settings import address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import (
        Fact,
        Gallery,
        Objection,
        Preference,
        ProgressCallback,
        Rejected,
        Request,
        Requirement,
        Run,
        Tokens,
        Wording,
    )
    from gcr.critic.rubric import Message, Rubric
    from gcr.critic.speaker import Decoding, Reply, Speaker
    from gcr.critic.taste import Taste
    from gcr.device.memory import SharedDevice
    from gcr.settings.schema import Quantize, Score, Verify

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
    spread: float | None = None,
    graphs: bool = False,
    progress: ProgressCallback | None = None,
    use: probe.Use | None = None,
    verify: Verify = "none",
    tastes: Sequence[Taste] = (),
) -> VisionLanguageCritic:
    """Load an image-text-to-text model from a hub id, a folder or `pocket:critic`, or connect to
    the server at an address.

    batch: images judged at once, at most.
    score, judges, spread: as `VisionLanguageCritic` has them.
    graphs: whether a local one decodes through captured graphs on a GPU.
    use: what a server will be asked for.
    verify: which program checks what it can.
    tastes: the user's own aspects.
    Raises ModelError for what cannot be loaded or reached, and for a model that cannot see images;
    UsageError for a server that does not take the key, or tells too little for this score,
    and where the program that checks is not installed.
    """
    reader = ocr.load() if verify == ocr.NAME else None
    speaker: Speaker
    if address.is_address(model):
        use = use or probe.Use()
        speaker = endpoint.connect(
            model,
            batch=batch,
            likely=score != "reply" or bool(tastes),
            sample=use.sample(rubric),
            extra=_extra(rubric),
            trusted=use.trusted,
            progress=progress,
            warn=use.warn,
        )
    else:
        rows = max(batch, judges)  # what several judges read is read once for those in one batch
        speaker = _local(model, rubric, device, quantize, rows, progress, graphs=graphs)
    return VisionLanguageCritic(
        speaker,
        rubric,
        score=score,
        judges=judges,
        spread=spread,
        limited=limits.is_limited(model),
        reader=reader,
        tastes=tastes,
    )


def _extra(rubric: Rubric) -> dict[str, object]:
    """What a server is sent with each question, beside what that needs."""
    told = rubric.chat_template_kwargs
    return {**rubric.extra_body, **({"chat_template_kwargs": told} if told else {})}


def _local(  # noqa: PLR0913, PLR0917 - as `load` has them
    model: str,
    rubric: Rubric,
    device: SharedDevice,
    quantize: Quantize,
    batch: int,
    progress: ProgressCallback | None,
    *,
    graphs: bool,
) -> LocalSpeaker:
    threads = checkpoints.threads(model)
    with at_most(threads):
        loaded, processor = load_model(model, device, quantize)
    with checkpoints.named_errors(model):
        return LocalSpeaker(
            loaded,
            processor,
            device,
            batch=batch,
            threads=threads,
            template=rubric.chat_template_kwargs,
            progress=progress,
            graphs=graphs,
        )


@dataclass(eq=False)
class VisionLanguageCritic:
    """A vision-language model, and the rubric that it judges by.

    speaker: the model, on this machine or behind an endpoint.
    rubric: what it is asked, and the form of its replies.
    score: where scores come from, as `scoring` has it.
    judges: how many sampled judgements the score of an image is the mean of.
    spread: standard deviation of one judgement's score, 0-1, as it was measured (`gcr calibrate`);
        None: unknown. Not used where several judges measure it anew for each image.
    limited: whether it is the embedded one, with its `limits`.
    tastes: the user's own aspects, which give a bonus.
    reader: reads the writing in images, which settles what it says of that; None: nothing does.
    limit: tokens that the pipeline reads of a prompt; the model is told. None: it is not.
    avoid: whether to ask for negative prompts, which not all pipelines heed.
    """

    speaker: Speaker
    rubric: Rubric
    score: Score = "reply"
    judges: int = 1
    spread: float | None = None
    limited: bool = False
    reader: ocr.Reader | None = None
    tastes: Sequence[Taste] = ()
    limit: int | None = None
    avoid: bool = False
    _checklists: checklist.Checklists = field(default_factory=checklist.Checklists, init=False)

    def by(
        self,
        rubric: Rubric,
        *,
        score: Score,
        judges: int,
        spread: float | None,
        tastes: Sequence[Taste],
    ) -> VisionLanguageCritic:
        """The same model, judging by another rubric or in another way, for no pipeline yet."""
        return replace(
            self,
            rubric=rubric,
            score=score,
            judges=judges,
            spread=spread,
            tastes=tastes,
            limit=None,
            avoid=False,
        )

    def can_overlap(self) -> bool:
        return self.speaker.can_overlap()

    def tokens(self) -> Tokens:
        return self.speaker.used

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
        scored: Sequence[Critique] = (),
    ) -> list[Critique]:
        """Judge each image against its request, beside the source that was edited, if any.

        scored: what `screen` said of each, whose scores are not asked for again.

        A reply that cannot be read is asked for once more; if that cannot be read either, the
        critique is unscored and its `problem` says why.
        """
        chats = self._chats(requests, images, sources or [None] * len(images))
        facts = [critique.facts for critique in scored] or self._facts(requests, images)
        self.speaker.begin()
        critiques = self._critiques(chats, facts)
        answers = [self._answers_in(critique) for critique in scored]
        return self._marked(critiques, requests, answers or self._answered(requests, images))

    def screen(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),  # noqa: ARG002 - no question shows it
    ) -> list[Critique]:
        """Score each image by its checklist, and write nothing of it.

        Raises ValueError where scores come from what is written.
        """
        if self.score != "checklist":
            raise ValueError(f"--score {self.score} is read from critiques")
        self.speaker.begin()
        facts = self._facts(requests, images)
        critiques = [scoring.verified(Critique(), known) for known in facts]
        return self._marked(critiques, requests, self._answered(requests, images))

    def _marked(
        self,
        critiques: list[Critique],
        requests: Sequence[Request],
        answers: Sequence[Answers],
    ) -> list[Critique]:
        """The critiques with what was answered about their images, and with what is known of the
        critic: its spread, and what it ignores.
        """
        if self.score == "checklist":
            critiques = [
                scoring.by_checklist(critique, answered.requirements)
                for critique, answered in zip(critiques, answers, strict=True)
            ]
        critiques = [
            taste.with_taste(critique, self.tastes, answered.tastes)
            for critique, answered in zip(critiques, answers, strict=True)
        ]
        if self.spread is not None and self.judges == 1:
            critiques = [_with_spread(critique, self.spread) for critique in critiques]
        if self.limited:
            critiques = [
                replace(critique, untrusted=limits.ignored(request))
                for critique, request in zip(critiques, requests, strict=True)
            ]
        return critiques

    def rewrite(self, objections: Sequence[Objection]) -> list[str | None]:
        """Ask for another refined request, in the conversation that led to the one complained of.

        A reply in the whole form is read like a critique; any other is the refined request itself.
        """
        chats = self._chats(
            [objection.request for objection in objections],
            [objection.image for objection in objections],
            [objection.source for objection in objections],
        )
        self.speaker.begin()
        replies = self._ask(
            [
                self.rubric.object(chat, objection.critique.raw, objection.complaint)
                for chat, objection in zip(chats, objections, strict=True)
            ]
        )
        return [reply.read_refined(r.text, self.rubric, cut_off=r.cut_off) for r in replies]

    def reword(
        self,
        runs: Sequence[Run],
        rejected: Sequence[Rejected] = (),
        gallery: Gallery | None = None,
    ) -> list[Wording | None]:
        """Ask for another refined request for each run, with all in view that was tried: in words,
        and where the rubric has places for them, in images.

        None where the rubric has no words to ask with.
        """
        if not self.rubric.history:
            return [None] * len(runs)
        chats = [self._history(run, gallery) for run in runs]
        if rejected:
            chats = [
                self.rubric.object(chat, before.prompt, before.complaint)
                for chat, before in zip(chats, rejected, strict=True)
            ]
        self.speaker.begin()
        replies = self._ask(chats)
        return [reply.read_wording(r.text, self.rubric, cut_off=r.cut_off) for r in replies]

    def _history(self, run: Run, gallery: Gallery | None) -> list[Message]:
        """The chat that asks for another refined request."""
        best = ranking.parent(run)
        last = ranking.highest(run.line.rounds[-1].attempts) if run.rounds else None
        views = {"{best}": best, "{last}": None if last == best else last}
        if not self.speaker.takes_pairs:
            del views["{last}"]
        images = {
            place: gallery(run, view.image)
            for place, view in views.items()
            if view is not None and gallery is not None and place in self.rubric.history
        }
        tried = history.describe(run)
        if self.tastes:
            tried = f"{tried}\n\n{taste.wishes(self.tastes)}"
        chat = self.rubric.reword(run.request, tried, self.limit, avoid=self.avoid, images=images)
        return with_images(chat, list(images.values()), self.rubric.max_pixels)

    def compare(
        self,
        requests: Sequence[Request],
        firsts: Sequence[Image],
        seconds: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Preference | None]:
        """Ask which of two images is the better answer to each request, in this order only, beside
        the source that was edited, if any.

        None for all where two images are too many for the model, and for edits where the rubric
        shows no source beside them.
        Raises UsageError where the rubric has no words to ask with.
        """
        self._check_rubric_has("comparison")
        if not self.speaker.takes_pairs:
            return [None] * len(requests)
        pairs = zip(requests, firsts, seconds, sources or [None] * len(requests), strict=True)
        chats = {
            i: with_images(
                self.rubric.compare(request),
                [first, second] if source is None else [source, first, second],
                self.rubric.max_pixels,
            )
            for i, (request, first, second, source) in enumerate(pairs)
            if self.rubric.compares_edits or not request.source
        }
        self.speaker.begin()
        replies = dict(zip(chats, self._ask(list(chats.values())), strict=True))
        return [
            pairwise.read(replies[i].text) if i in replies else None for i in range(len(requests))
        ]

    def take_apart(self, requests: Sequence[Request]) -> list[tuple[Requirement, ...]]:
        """Ask for each request as a checklist, and once more where none can be read.

        Raises UsageError where the rubric has no words to ask with.
        """
        self._check_rubric_has("checklist")
        chats = [self.rubric.take_apart(request) for request in requests]
        self.speaker.begin()
        replies = self._ask(chats)
        checklists = [checklist.read(r.text) for r in replies]
        unread = [i for i, requirements in enumerate(checklists) if not requirements]
        again = self._ask([self.rubric.again(chats[i], replies[i].text) for i in unread])
        for i, second in zip(unread, again, strict=True):
            checklists[i] = checklist.read(second.text)
        return checklists

    def answer(self, images: Sequence[Image], questions: Sequence[str]) -> list[float]:
        """The probability of "yes" against "no" as the first word of the answer.

        questions: one for each image, sent as they are.
        """
        distinct = {id(image): image for image in images}  # many questions are of one image
        shown = {key: image_part(image, self.rubric.max_pixels) for key, image in distinct.items()}
        contents = [
            [shown[id(image)], {"type": "text", "text": question}]
            for image, question in zip(images, questions, strict=True)
        ]
        return self.speaker.yes([[{"role": "user", "content": content}] for content in contents])

    def _chats(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None],
    ) -> list[list[Message]]:
        return [
            with_images(
                self.rubric.messages(request, self.limit),
                [image] if source is None else [source, image],
                self.rubric.max_pixels,
            )
            for request, image, source in zip(requests, images, sources, strict=True)
        ]

    def _facts(
        self, requests: Sequence[Request], images: Sequence[Image]
    ) -> list[tuple[Fact, ...]]:
        """What a program found in each image; nothing without one."""
        if self.reader is None:
            return [()] * len(images)
        pairs = zip(requests, images, strict=True)
        return [ocr.facts(request.prompt, image, self.reader) for request, image in pairs]

    def _critiques(
        self, chats: list[list[Message]], facts: Sequence[tuple[Fact, ...]]
    ) -> list[Critique]:
        """A critique from each chat: that of one judge, or the mean of several, who are asked in
        one call. facts: of each chat's image.
        """
        decoding = self.rubric.decoding(critique=True)
        if self.judges == 1:
            return list(map(scoring.verified, self._judged(chats, decoding), facts))
        decoding = replace(decoding, temperature=decoding.temperature or JUDGES_TEMPERATURE)
        rows = self._judged([chat for chat in chats for _ in range(self.judges)], decoding)
        panels = (rows[i : i + self.judges] for i in range(0, len(rows), self.judges))
        return [
            scoring.mean_of_judges([scoring.verified(critique, known) for critique in panel])
            for panel, known in zip(panels, facts, strict=True)
        ]

    def _judged(self, chats: list[list[Message]], decoding: Decoding) -> list[Critique]:
        """One critique of each chat, which is asked once more where there is no score."""
        critiques = self._read(chats, decoding)
        unread = [i for i, critique in enumerate(critiques) if critique.overall is None]
        again = [self.rubric.again(chats[i], critiques[i].raw) for i in unread]
        for i, critique in zip(unread, self._read(again, decoding), strict=True):
            critiques[i] = critique
        return critiques

    def _read(self, chats: list[list[Message]], decoding: Decoding) -> list[Critique]:
        soft = self.score == "soft"
        complete = partial(reply.is_complete, rubric=self.rubric)
        replies = self.speaker.replies(chats, replace(decoding, numbers=soft, complete=complete))
        critiques = []
        for r in replies:
            critique = reply.read(r.text, self.rubric, cut_off=r.cut_off)
            if soft:
                places = reply.places(r.text, self.rubric, cut_off=r.cut_off)
                critique = scoring.expected(critique, r, places)
            if self.limited:
                critique = limits.doubted(critique)
            critiques.append(replace(critique, problem=r.withheld or critique.problem))
        return critiques

    def _answered(self, requests: Sequence[Request], images: Sequence[Image]) -> list[Answers]:
        """The answers to all questions about each image, asked at once: it is read once for all."""
        checklists: Sequence[tuple[Requirement, ...]] = [()] * len(images)
        if self.score == "checklist":
            checklists = self._checklists.of(requests, self.take_apart)
        questions = [
            (image, question)
            for image, requirements in zip(images, checklists, strict=True)
            for question in (
                *(requirement.question for requirement in requirements),
                *(wanted.question for wanted in self.tastes),
            )
        ]
        if not questions:
            return [Answers()] * len(images)
        chances = iter(self.answer([i for i, _ in questions], [q for _, q in questions]))
        return [
            Answers(
                tuple(replace(requirement, chance=next(chances)) for requirement in requirements),
                tuple(next(chances) for _ in self.tastes),
            )
            for requirements in checklists
        ]

    def _answers_in(self, critique: Critique) -> Answers:
        """The answers that a screened image's critique holds."""
        return Answers(critique.requirements, taste.chances(critique, self.tastes))

    def _ask(self, chats: list[list[Message]]) -> list[Reply]:
        return self.speaker.replies(chats, self.rubric.decoding())

    def _check_rubric_has(self, key: Literal["checklist", "comparison"]) -> None:
        if not getattr(self.rubric, key):
            raise UsageError(
                f"the rubric {self.rubric.name} has no {key}",
                f"add the key `{key}` to it: prompts/text-to-image.yaml shows the form",
            )


class Answers(NamedTuple):
    """What was answered about an image.

    requirements: its request's checklist, answered; empty where the score is read from replies.
    tastes: the chance of "yes" to each of the user's own aspects.
    """

    requirements: tuple[Requirement, ...] = ()
    tastes: tuple[float, ...] = ()


def _with_spread(critique: Critique, spread: float) -> Critique:
    return critique if critique.overall is None else replace(critique, spread=spread)
