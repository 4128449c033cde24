"""Reads a critic's reply, and writes one. Knows nothing of models.

    # User Request Analysis
    …
    # Detailed Judgement
    1. Text Faithfulness:
    ## Justification: …
    ## Score: 3.5
    …
    # Summary: …

    # User Request Refinement:
    ## Refinement Comments: …
    ## Refined Request: …

Models bend this form in many ways, and the reader bends with them; `gcr.critic.sections` finds the
sections. But it never invents: a score is read only where one number from 1 to 4 stands alone.
0, 45, 3.5/10, `1-4` and `3 or 4` are not scores, and are not bent into any.

A rubric can say that its critic's scores are read as RationalRewards' own parser reads them
(`verdicts`): then `3.5 (anchored at 4, minus 0.5)` and `3.5 -> 3.3` are 3.5.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from gcr.core.records import AspectScore, Critique, Wording
from gcr.critic import refined_request
from gcr.critic.scoring import overall
from gcr.critic.sections import AFTER_JUDGEMENT, Section, cut, without_thoughts
from gcr.critic.speaker import NUMBER

if TYPE_CHECKING:
    from gcr.critic.rubric import Rubric

Verdict = float | Literal["N/A"] | None
"""What a reply says of an aspect: a score, that it does not apply, or nothing readable."""

_NUMBER = re.compile(
    r"""[\s(\[{<"'（【]*+ (?: score \s*+ [:=]? \s*+ )? (?P<value> [1-4] (?:\.[0-9]+)? )
    (?P<of> \s* \(? (?: / | out\s+of ) \s* (?: 4 (?:\.0+)? (?!\.?\d) | four\b ) \)? )?
    (?: \s* points? \b )?""",
    re.VERBOSE | re.IGNORECASE,
)
# What a number of another scale, or one with a decimal comma, begins with is no score.
_LEADING = re.compile(
    r"""[\s(\[{<"'（【]*+ (?P<value> \d++ (?:\.\d++)?+ ) (?! \s*+ % | ,\d
    | \s*+ \(?+ (?: / | out\s+of ) \s*+ (?! 4 (?:\.0+)?+ (?!\.?\d) | four\b ) )""",
    re.VERBOSE | re.IGNORECASE,
)
_SCALE = re.compile(r"\W*1\s*(?:[-–—]|to)\s*4\W*", re.IGNORECASE)
_DOES_NOT_APPLY = re.compile(
    r"""[\s(\[{<"'（【]*+ (?: n\s*/\s*a | n\.\s*a\. | na | none | not\s+applicable ) (?!\w)""",
    re.VERBOSE | re.IGNORECASE,
)
_MARKS = re.compile(r"""[\s.)\]}>"'）】|]*+""")
_REMARK = re.compile(
    r"""\s* (?: (?P<mark> [.,;:(\[（【|–—-] ) \s* (?! (?:or|to|and|out|of)\b )
    | \b (?:because|since|as|due\s+to|given|with|but)\b ) (?P<words> .*)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_GOES_ON = re.compile(r"\s+(?:or|to|and|out|of)\b")
_LIST = re.compile(r"[\s*_`]*1[.)]\s.*\n\s*2[.)]\s")
# "2 objects" counts something; "4 points", or "4" after "maybe", is another score.
_COUNTED = re.compile(
    r"""(?<![\d.,/–—-]) \b \d{1,3} \s+ (?! (?: points? | stars? | and | but | for | out | if | when
    | would | could | might | may | because | since | given | depending
      | with ) \b ) [^\W\d_]{3,}""",
    re.VERBOSE | re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|almost|nearly|about|around|or|to|than|even|rather|else|score)\b",
    re.IGNORECASE,
)
_IN_BRACKETS = re.compile(
    r"""\s* (?P<score> score \s* [:=]? \s* )? (?P<value> [1-4] (?:\.[0-9]+)? )
    (?P<of> \s* (?: / | out\s+of ) \s* (?: 4 (?:\.0+)? | four ) )? \s*""",
    re.VERBOSE | re.IGNORECASE,
)


class _Reading(NamedTuple):
    """What a line says of an aspect, and where in the reply that stands.

    exact: whether that is the number that is written there.
    """

    verdict: Verdict
    at: int = 0
    exact: bool = True


def read(text: str, rubric: Rubric, *, cut_off: bool = False) -> Critique:
    """Read a reply. Never raises; what cannot be read is None and named in `problem`.

    cut_off: the reply hit the limit on tokens, so what it ends with is unfinished: a score there
    may lack digits, and half a refined request is worse than none. Neither is taken.

    The reply is scored only if every aspect has one clear verdict, so that a half-read reply
    never outranks a whole one. N/A is a verdict on the rubric's optional aspects alone. Of those,
    one that is nowhere mentioned counts as N/A, provided the reply goes on past its judgement.
    Two scores for an aspect that differ are no verdict, unless the rubric has the first one count.
    """
    sections = _sections(text, rubric, cut_off=cut_off)
    verdicts = {a: _verdict(a, sections, rubric).verdict for a in rubric.aspects}
    aspects = tuple(
        AspectScore(aspect, None if verdict == "N/A" else verdict, _justification(aspect, sections))
        for aspect, verdict in verdicts.items()
    )
    unread = [aspect for aspect, verdict in verdicts.items() if verdict is None]
    scores = [aspect.score for aspect in aspects if aspect.score is not None]
    problem = ""
    if unread:
        problem = f"unreadable reply: no score for {', '.join(unread)}"
    elif not scores:
        problem = "unreadable reply: no aspect applies"
    return Critique(
        aspects=aspects,
        overall=None if problem else overall(scores),
        summary=_first(sections, "summary"),
        advice=_first(sections, "comments") or _first(sections, "refinement"),
        refined=_refined(_first(sections, "refined"), rubric),
        raw=text,
        problem=problem,
    )


def _refined(text: str, rubric: Rubric) -> str | None:
    """The refined request, unless the critic only repeats the place for it in the form."""
    refined = refined_request.extract(text)
    is_place = refined is not None and refined.startswith("[") and refined in rubric.template
    return None if is_place else refined


def read_refined(text: str, rubric: Rubric, *, cut_off: bool = False) -> str | None:
    """The refined request of a reply that was asked for nothing else; None where there is none.

    A critic that answers in the whole form, or under one heading of it, is read as it meant; under
    headings that lead to no refined request there is none.
    """
    if any(section.kind != "other" for section in cut(text, rubric)):
        return read(text, rubric, cut_off=cut_off).refined
    return None if cut_off else refined_request.extract(without_thoughts(text, rubric))


def read_wording(text: str, rubric: Rubric, *, cut_off: bool = False) -> Wording:
    """The refined request and the negative prompt of a reply that was asked for both."""
    sections = cut(text, rubric)
    if cut_off and sections[-1].kind == "avoid":
        sections.pop()
    avoid = refined_request.extract(_first(sections, "avoid"))
    return Wording(read_refined(text, rubric, cut_off=cut_off), avoid or "", text)


def write(critique: Critique, rubric: Rubric, analysis: str = "") -> str:
    """The reply that says this. An aspect with no score is written N/A, no refined request None.

    `read` gives back the critique's aspects, summary, advice and refined request; raises
    ValueError for one that this form cannot say (say, a score of 7, or a summary with headings).
    """
    h = rubric.headings
    lines = [f"# {h.analysis}", analysis, f"# {h.judgement}"]
    for number, aspect in enumerate(critique.aspects, 1):
        lines += [
            f"{number}. {aspect.aspect}:",
            f"## {h.justification}: {aspect.justification}",
            f"## {h.score}: {'N/A' if aspect.score is None else float(aspect.score)}",
        ]
    lines += [
        f"# {h.summary}: {critique.summary}",
        "",
        f"# {h.refinement}:",
        f"## {h.comments}: {critique.advice}",
        f"## {h.refined}: {critique.refined or None}",
    ]
    text = "\n".join(line.rstrip() for line in lines)
    again = read(text, rubric)
    for part in ("aspects", "summary", "advice", "refined"):
        if getattr(again, part) != getattr(critique, part):
            raise ValueError(f"a reply cannot say this {part}: {getattr(critique, part)!r}")
    return text


def is_complete(text: str, rubric: Rubric) -> bool:
    """Whether `read` would take nothing of what could follow: the refined request, which is last in
    the form, has come to its end.
    """
    sections = cut(text, rubric)
    refined = next((s for s in sections if s.kind == "refined" and not s.empty), None)
    if refined is None:
        return False
    written = "\n".join(line for line, _ in refined.lines)
    return refined is not sections[-1] or refined_request.is_closed(written)


def _sections(text: str, rubric: Rubric, *, cut_off: bool) -> list[Section]:
    """The sections, without what the end cut in two where half of it could pass for the whole."""
    sections = cut(text, rubric)
    last = sections[-1]
    on_one_line = "\n" not in last.text and not text.endswith(("\n", "\r"))
    unfinished = last.kind == "refined" or (last.kind in ("score", "aspect") and on_one_line)
    if cut_off and unfinished:
        last.lines.clear()
        last.unfinished = True
    return sections


def places(text: str, rubric: Rubric, *, cut_off: bool = False) -> dict[str, int]:
    """Where in a reply the scores stand that `read` takes from it, by aspect."""
    sections = _sections(text, rubric, cut_off=cut_off)
    readings = {aspect: _verdict(aspect, sections, rubric) for aspect in rubric.aspects}
    return {a: r.at for a, r in readings.items() if isinstance(r.verdict, float) and r.exact}


def _verdict(aspect: str, sections: list[Section], rubric: Rubric) -> _Reading:
    """What a reply says of one aspect, and where it first does."""
    about = [s for s in sections if s.aspect == aspect]
    scores = [s for s in about if s.kind == "score"]
    readings = [r for s in scores if (r := _leading(s, rubric))][:1]
    readings = readings or [r for s in scores if (r := _reading(s))]
    if not readings and not any(s.unfinished for s in scores):
        # "1. Text Faithfulness: 3.5/4", with nothing else said.
        readings = [r for s in about if s.kind == "aspect" and (r := _reading(s))]
    if not about and any(s.kind in AFTER_JUDGEMENT for s in sections):
        readings = [_Reading("N/A")]
    reading = readings[0] if len({r.verdict for r in readings}) == 1 else _Reading(None)
    optional = reading.verdict != "N/A" or aspect in rubric.optional
    return reading if optional else _Reading(None)


def _leading(section: Section, rubric: Rubric) -> _Reading | None:
    """What a section's first line begins with, where the rubric has that count: a number, or that
    the aspect does not apply.
    """
    if rubric.verdicts == "clear":
        return None
    line, at = section.first
    bare = re.sub(r"[*_`]", " ", line)
    if _DOES_NOT_APPLY.match(bare):
        return _Reading("N/A", at)
    number = None if _SCALE.fullmatch(bare) else _LEADING.match(bare)
    if number is None:
        return None
    value = float(number["value"])
    clamped = min(4.0, max(1.0, value))
    exact = clamped == value and NUMBER.fullmatch(number["value"]) is not None
    if clamped != value and rubric.verdicts == "leading":
        return _Reading(None, at)
    return _Reading(clamped, at + number.start("value"), exact=exact)


def _reading(section: Section) -> _Reading | None:
    """What a section's first line says, or else the brackets after its heading; None: no words."""
    (line, at), (note, within) = section.first, section.note
    verdict, offset = _value(line)
    # "Text Faithfulness: 3" on one line and "of 4 cats" on the next is no score, nor is the number
    # that a list begins with.
    goes_on = _GOES_ON.match(section.text, len(line)) or _LIST.match(section.text)
    if verdict is not None and not (section.kind == "aspect" and goes_on):
        return _Reading(verdict, at + offset)
    # As in "1. Text Faithfulness (2.5/4): the mat is missing".
    brackets = _IN_BRACKETS.fullmatch(note)
    if brackets and not re.match(r"[\W_]*\d", line):
        value = brackets["value"]
        if brackets["score"] or brackets["of"] or "." in value:
            score = float(value)
            return _Reading(score if score <= 4 else None, within + brackets.start("value"))
    if not line and _DOES_NOT_APPLY.fullmatch(note):
        return _Reading("N/A", within)
    return _Reading(None, at) if line else None


def _value(text: str) -> tuple[Verdict, int]:
    """The verdict that a line is or begins with, and how far into the line it stands."""
    text = re.sub(r"[*_`]", " ", text)
    if (absent := _DOES_NOT_APPLY.match(text)) and _is_remark(text[absent.end() :]):
        return "N/A", absent.start()
    number = _NUMBER.match(text)
    if number and _is_remark(text[number.end() :], fraction=bool(number["of"])):
        value = float(number["value"])
        return (value if value <= 4 else None), number.start("value")
    return None, 0


def _is_remark(text: str, *, fraction: bool = False) -> bool:
    """Whether what follows a score leaves it the only one: nothing but marks, or a remark."""
    if _MARKS.fullmatch(text):
        return True
    remark = _REMARK.fullmatch(text)
    if not remark:
        return False
    words = remark["words"]
    if not re.search(r"\d", words):
        return True
    # A number right after a dash or a comma is the end of a range, or half of 3,5.
    counts = fraction or not words[:1].isdigit() or (remark["mark"] or "") in "(（[【:—"
    return counts and not _HEDGE.search(words) and not re.search(r"\d", _COUNTED.sub("", words))


def _justification(aspect: str, sections: list[Section]) -> str:
    about = [s for s in sections if s.aspect == aspect]
    written = _first(about, "justification")
    # "1. Text Faithfulness: the cat is missing", without a heading of its own.
    plain = [s.text for s in about if s.kind == "aspect" and s.text]
    for text in plain if not written else ():
        first, _, rest = text.partition("\n")
        written = written or (text if _value(first)[0] is None else rest.strip())
    return written


def _first(sections: list[Section], kind: str) -> str:
    return next((s.text for s in sections if s.kind == kind and not s.empty), "")
