"""Cuts a critic's reply into its sections, however the headings are dressed.

`## Score: 3`, `##Score:3`, `**Score**: 3`, `- Score: 3` and a heading in the middle of a line are
all the same section. What the words in a section mean is not known here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from gcr.critic.thoughts import Form, answer

if TYPE_CHECKING:
    from gcr.critic.rubric import Rubric

AFTER_JUDGEMENT = ("summary", "refinement", "comments", "refined", "avoid")
"""The kinds of section that a reply comes to once it has judged every aspect."""

_ALIASES = {
    "refined": ("Refined Prompt", "Refined User Request", "Refined Instruction"),
    "avoid": ("Negative Request",),
}

_NO_WORDS = re.compile(r"\s*(?:```[\w-]*|#{1,6}|\|[\s|:-]*+|</?\w{1,20}>)\s*")
# A score that needs no colon before it.
_ALONE = re.compile(r"\**[1-4](?:\.[0-9]+)?(?:\s*/\s*4(?:\.0+)?)?\**")
_FENCE = re.compile(r"\s*```[\w-]*\s*")
_RULE = re.compile(r"\s*(?:-{3,}|\*{3,}|_{3,})\s*")
_MARKED = re.compile(r"#{1,6}\s+\S.*")
# A heading that is not one of ours: what follows it must not count for the aspect before it.
_FOREIGN = re.compile(r"#{1,6}\s+\S.*|\(?\d{1,2}[.)]\s.{1,60}[:：]\*{0,2}|\*\*[^*]+\*\*[:：]?")


@dataclass(slots=True)
class Section:
    """A part of a reply under one heading.

    kind: a field of `rubric.Headings`, or `aspect`, or `other`.
    aspect: the one it speaks of; empty where it speaks of none.
    lines: its text, as (line, offset in the reply).
    note: what stands in brackets after its heading, the same way.
    empty: whether it has no words yet.
    unfinished: whether the end of the reply cut it in two, and its text was therefore dropped.
    """

    kind: str
    aspect: str = ""
    lines: list[tuple[str, int]] = field(default_factory=list)
    note: tuple[str, int] = ("", 0)
    empty: bool = True
    unfinished: bool = False

    def add(self, line: str, at: int) -> None:
        self.lines.append((line, at))
        self.empty = self.empty and not line.strip()

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line, _ in self.lines).strip()

    @property
    def first(self) -> tuple[str, int]:
        """The first line with words, and where it stands in the reply."""
        for line, at in self.lines:
            if line.strip():
                return line.strip(), at + len(line) - len(line.lstrip())
        return "", 0


@dataclass(frozen=True, slots=True)
class _Heading:
    """A heading at the start of a line.

    kind, aspect: as `Section` has them.
    rest: what follows it on the line, and its offset there.
    note: what stands in brackets after its name, and its offset.
    marked: whether it has a `#`.
    scored: whether it is of the form "Text Faithfulness Score: 3".
    """

    kind: str
    aspect: str
    rest: tuple[str, int]
    note: tuple[str, int]
    marked: bool
    scored: bool


def cut(text: str, rubric: Rubric) -> list[Section]:
    """The sections of a reply, in order; never empty. Text before the first heading is `other`."""
    return _Reader(_of(rubric), without_thoughts(text, rubric)).sections


def without_thoughts(text: str, rubric: Rubric) -> str:
    """The reply without thoughts and control tokens, every character in its place."""
    text = text.replace("\r\n", " \n").replace("\r", "\n")
    return answer(text, _of(rubric).form)


def _of(rubric: Rubric) -> _Grammar:
    return _grammar(tuple(dict(rubric.headings).items()), rubric.aspects)


class _Grammar:
    """The headings of one rubric as patterns."""

    def __init__(self, headings: tuple[tuple[str, str], ...], aspects: tuple[str, ...]) -> None:
        names = [
            *((name, kind, "") for kind, name in headings),
            *((alias, kind, "") for kind, aliases in _ALIASES.items() for alias in aliases),
            *((aspect, "aspect", aspect) for aspect in aspects),
        ]
        # The longest first: of two names with one beginning the longer is meant.
        names.sort(key=lambda entry: -len(entry[0]))
        self.names = [
            (re.compile(_pattern(name), re.IGNORECASE), kind, aspect)
            for name, kind, aspect in names
        ]
        score = _pattern(dict(headings)["score"])
        either = "|".join(pattern.pattern for pattern, _, _ in self.names)
        these = "|".join(_pattern(aspect) for aspect in aspects)
        refined = "|".join(name.pattern for name, kind, _ in self.names if kind == "refined")
        # Nothing that may lead a heading can be part of its name, so nothing is tried twice (`*+`).
        self.heading = re.compile(
            rf"""(?P<lead>(?:[\s>\#•+|-]|\*(?=\s))*+)
            (?P<bold>\*{{1,3}}|_{{1,2}})? (?:\(?[0-9]{{1,2}}[.):]\s*+)?
            (?P<strong>\*{{1,3}}|_{{1,2}})?
            (?P<name>{either}) (?P<scored>\s+{score})? (?!\w)
            (?P<inner>[*_]*) (?:\s*[(\[（【](?P<note>[^()\[\]（）【】]*)[)\]）】])?
            (?P<closed>[*_]*) \s* (?P<colon>[:：=|]|[–—-](?=\s*\**[1-4N]))? (?P<rest>.*)""",
            re.VERBOSE | re.IGNORECASE,
        )
        self.inside = re.compile(
            rf"(?<=\S)\s+(?=\#{{1,6}}\s*(?:{either})\b|[0-9]{{1,2}}[.)]\s*\**(?:{these})\**\s*:)",
            re.IGNORECASE,
        )
        self.form = Form(
            judgement=re.compile(_pattern(dict(headings)["judgement"]), re.IGNORECASE),
            aspect=re.compile(rf"^[\s>#*_0-9.)]{{0,12}}(?:{these})", re.IGNORECASE | re.MULTILINE),
            refined=re.compile(rf"[\s>#*_-]*(?:{refined})", re.IGNORECASE),
        )

    def match(self, line: str) -> _Heading | None:
        """The heading a line starts with. It needs a `#`, a colon, a score or a line to itself."""
        stripped = line.strip()
        match = self.heading.fullmatch(stripped)
        if not match:
            return None
        rest, marked = match["rest"].strip(), "#" in match["lead"]
        if not (match["colon"] or marked or not rest or _ALONE.fullmatch(rest)):
            return None
        mark = match["bold"] or match["strong"] or ""
        if mark and not (match["closed"] or match["inner"]):
            # `**Score:** 3` closes after the colon, `**Score: 3**` at the end of the line.
            rest = rest[len(mark) :] if rest.startswith(mark) else rest.removesuffix(mark)
        rest = rest.strip()
        lead = len(line) - len(line.lstrip())
        kind, aspect = next((k, a) for name, k, a in self.names if name.fullmatch(match["name"]))
        return _Heading(
            kind,
            aspect,
            (rest, lead + stripped.index(rest, match.start("rest"))),
            (match["note"] or "", lead + max(match.start("note"), 0)),
            marked,
            bool(match["scored"]),
        )


@lru_cache(maxsize=16)
def _grammar(headings: tuple[tuple[str, str], ...], aspects: tuple[str, ...]) -> _Grammar:
    return _Grammar(headings, aspects)


def _pattern(name: str) -> str:
    """A heading's name, whatever its case, spacing and spelling."""
    words = re.split(r"[\s_-]+", name.lower())
    either = {"and": "(?:and|&)", "&": "(?:and|&)", "judgement": "judge?ment"}
    return r"[\s_-]+".join(either.get(word, re.escape(word)) for word in words)


class _Reader:
    """Reads one reply line by line.

    Aspects and their scores count only between the heading of the judgement, where there is one,
    and the summary. Elsewhere the same words are prose: a request may quote them, and so may a
    refined request.
    """

    def __init__(self, grammar: _Grammar, text: str) -> None:
        self.grammar = grammar
        self.sections = [Section("other")]
        self.aspect = ""
        self.fenced = False  # inside a code block that the refined request opened
        lines = text.split("\n")
        kinds = {heading.kind for line in lines if (heading := grammar.match(line))}
        self.judging = "judgement" not in kinds
        at = 0
        for line in lines:
            self._cut(line, at)
            at += len(line) + 1

    def _cut(self, line: str, at: int) -> None:
        """A line, which may hold headings inside it. at: where it stands in the reply."""
        start = 0
        while self.sections[-1].kind != "refined":
            # A heading that begins the line is no heading inside it.
            inside = self.grammar.inside.search(line, start + 1)
            if not inside:
                self._line(line[start:], at + start)
                return
            self._line(line[start : inside.start()], at + start)
            start = inside.end()
        self._refined(line[start:], at + start)

    def _line(self, line: str, at: int) -> None:
        heading = self.grammar.match(line)
        section = self.sections[-1]
        awaited = section.kind == "score" and section.empty
        if heading and self._counts(heading):
            self._open(heading, at)
        elif _FOREIGN.fullmatch(line.strip()) and not awaited:
            if self.judging or _MARKED.fullmatch(line.strip()):
                self.aspect = ""
                self._begin(Section("other"), line, at)
            else:
                section.add(line, at)
        elif not _NO_WORDS.fullmatch(line):
            section.add(line, at)

    def _counts(self, heading: _Heading) -> bool:
        if heading.kind == "aspect":
            return self.judging
        if heading.kind in ("score", "justification"):
            return self.judging and bool(self.aspect)
        return True

    def _open(self, heading: _Heading, at: int) -> None:
        if heading.kind == "judgement":
            self.judging = True
        elif heading.kind in AFTER_JUDGEMENT:
            self.judging = False
        if heading.kind == "aspect":
            self.aspect = heading.aspect
        elif heading.kind not in ("score", "justification"):
            self.aspect = ""
        kind = "score" if heading.scored and heading.kind == "aspect" else heading.kind
        (rest, after), (note, within) = heading.rest, heading.note
        self.fenced = kind == "refined" and rest.count("```") == 1
        self._begin(Section(kind, self.aspect, note=(note, at + within)), rest, at + after)

    def _begin(self, section: Section, line: str, at: int) -> None:
        section.add(line, at)
        self.sections.append(section)

    def _refined(self, line: str, at: int) -> None:
        """A line of the refined request, which only a heading or a rule ends."""
        section = self.sections[-1]
        if _FENCE.fullmatch(line):
            # After words that lead to it, too.
            opens = section.empty or (not self.fenced and section.text.endswith((":", "：")))
            if opens or self.fenced:
                section.add(line, at)
            self.fenced = opens
            if not opens:
                self.sections.append(Section("other"))
            return
        heading = self.grammar.match(line)
        ours = heading is not None and (
            heading.marked or heading.kind not in ("aspect", "score", "justification")
        )
        if not self.fenced and (ours or _MARKED.fullmatch(line.strip()) or _RULE.fullmatch(line)):
            self.sections.append(Section("other"))
            if not _RULE.fullmatch(line):
                self._line(line, at)
        else:
            section.add(line, at)
