"""What a rewritten prompt may not do, checked by code.

A critic is a language model that reads the user's words and whatever is painted in an image.
Either can lead it astray, and so can its own reply. So a rewrite is held against the request: what
the user marked must still be there, nothing may be there that only a judge would say, and all of
it must fit the model that draws. One that fails is sent back once with the complaint; if the
second is no better, there is no rewrite, and the strategy goes on with what it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gcr.core import judgespeak, quotes
from gcr.core.records import Objection, Rejected, Wording
from gcr.core.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import Critique, Request, Run

Excess = Callable[[str], str]
"""Says of a prompt which tokenizer it is too long for, and by how much; empty if it fits."""

_TAG = re.compile(r"<\w+:[^<>]+>")
LONGEST = 20_000
"""Characters of a prompt: no pipeline reads more."""


def kept(request: Request) -> list[str]:
    """What every rewrite must hold word for word: marked spans, quoted text, `<lora:…>` tags."""
    prompt = request.prompt
    spans = [*request.keep, *quotes.quoted(prompt), *_TAG.findall(prompt)]
    return list(dict.fromkeys(spans))


def complaint(request: Request, refined: str, excess: Excess) -> str:
    """What is wrong with a rewrite, in words for the critic and the log; empty if nothing is."""
    if len(refined) > LONGEST:
        return f"it has {len(refined)} characters, and no more than {LONGEST} can be read"
    if gone := lost(kept(request), refined):
        return f"it must hold, word for word: {', '.join(gone)}"
    prompt = quotes.folded(request.prompt)
    # "OPEN," has its comma from the sentence around it, as American print has it.
    written = [(words, quotes.folded(words).removesuffix(",")) for words in quotes.written(refined)]
    if invented := [words for words, plain in written if plain not in prompt]:
        return f"the request asks for no such writing: {', '.join(invented)}"
    if foreign := _new(judgespeak.of_a_judge(refined), request):
        return f"it must only say what is to be seen, without: {', '.join(foreign)}"
    if remarks := _new(judgespeak.remarks(quotes.outside(refined)), request):
        return f"it must be one request alone, and nothing around it: {', '.join(remarks)}"
    return excess(refined)


def _new(words: Sequence[str], request: Request) -> list[str]:
    """Those of the words that the request has not."""
    prompt = quotes.folded(request.prompt).casefold()
    return [word for word in words if quotes.folded(word).casefold() not in prompt]


def lost(spans: Sequence[str], text: str) -> list[str]:
    """Those of the spans that a text does not hold, whatever its typography and white space."""
    text = quotes.folded(text)
    return [span for span in spans if not _holds(text, quotes.folded(quotes.inner(span)))]


def _holds(text: str, words: str) -> bool:
    """Whether the words stand in the text, both folded: "OPEN" does not in "OPENED".

    Scripts that put no space between words know no such thing as inside a longer word.
    """
    edges = [r"\b" if re.match(r"[A-Za-z0-9]", sign) else "" for sign in (words[:1], words[-1:])]
    return re.search(re.escape(words).join(edges), text, re.ASCII) is not None


def negative_complaint(request: Request, negative: str, excess: Excess) -> str:
    """As `complaint`, of a negative prompt: it must not forbid what the request asks for."""
    if len(negative) > LONGEST:
        return f"the negative prompt is too long: it has {len(negative)} characters"
    phrases = [phrase.strip() for phrase in negative.split(",")]
    prompt = quotes.folded(request.prompt).casefold()
    forbidden = [
        phrase for phrase in phrases if phrase and _holds(prompt, quotes.folded(phrase).casefold())
    ]
    if forbidden:
        return f"the negative prompt must not hold what is asked for: {', '.join(forbidden)}"
    if foreign := judgespeak.of_a_judge(negative):
        return f"the negative prompt must only name what is not to be seen: {', '.join(foreign)}"
    over = excess(negative) if negative else ""
    return f"the negative prompt is too long: {over}" if over else ""


@dataclass(frozen=True, slots=True)
class Guarded(Relay):
    """A critic whose rewrites keep to the guards, or are None. All else it does as it did."""

    excess: Excess

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        sources = sources or [None] * len(images)
        critiques = self.critic.judge(requests, images, sources)
        objections = {
            i: Objection(request, image, critique, words, source)
            for i, (request, image, critique, source) in enumerate(
                zip(requests, images, critiques, sources, strict=True)
            )
            if (words := self._complaint(request, critique))
        }
        again = self.critic.rewrite(list(objections.values())) if objections else []
        for (i, objection), refined in zip(objections.items(), again, strict=True):
            critiques[i] = self._mended(objection, refined)
        return critiques

    def reword(
        self, runs: Sequence[Run], rejected: Sequence[Rejected] = ()
    ) -> list[Wording | None]:
        """As the critic behind does, with one more try for each that cannot be used."""
        wordings = self.critic.reword(runs, rejected)
        unfit = {
            i: Rejected(wording.prompt, words)
            for i, (run, wording) in enumerate(zip(runs, wordings, strict=True))
            if wording and wording.prompt and (words := self._of_wording(run, wording))
        }
        asked = [runs[i] for i in unfit]
        again = self.critic.reword(asked, list(unfit.values())) if unfit else []
        for (i, before), second in zip(unfit.items(), again, strict=True):
            wordings[i] = self._settled(runs[i], before, second)
        return wordings

    def _of_wording(self, run: Run, wording: Wording) -> str:
        if not wording.prompt:
            return ""
        if any(attempt.candidate.prompt == wording.prompt for attempt in run.attempts):
            return "it was tried before"
        return complaint(run.request, wording.prompt, self.excess) or negative_complaint(
            run.request, wording.negative, self.excess
        )

    def _settled(self, run: Run, before: Rejected, second: Wording | None) -> Wording:
        """The second wording, or one that has no prompt, with what was turned down."""
        wording = second or Wording(None)
        rejected = [before]
        if wording.prompt and (words := self._of_wording(run, wording)):
            rejected.append(Rejected(wording.prompt, words))
            wording = Wording(None, raw=wording.raw)
        return replace(wording, rejected=tuple(rejected))

    def _complaint(self, request: Request, critique: Critique) -> str:
        return complaint(request, critique.refined, self.excess) if critique.refined else ""

    def _mended(self, objection: Objection, refined: str | None) -> Critique:
        """The critique with its second rewrite, or with none, and with what was turned down."""
        critique = objection.critique
        rejected = [Rejected(critique.refined or "", objection.complaint)]
        if refined and (second := complaint(objection.request, refined, self.excess)):
            rejected.append(Rejected(refined, second))
            refined = None
        return replace(critique, refined=refined, rejected=tuple(rejected))
