"""What a rewritten prompt may not do, checked by code.

A critic is a language model that reads the user's words and whatever is painted in an image.
Either can lead it astray, and so can its own reply. So a rewrite is held against the request: what
the user marked must still be there, nothing may be there that only a judge would say, and all of
it must fit the model that draws. One that fails is sent back once with the complaint; if the
second is no better, there is no rewrite, and the strategy goes on with what it has.

The loop has every critic's rewrites checked here, whatever the critic is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gcr.core import syntax
from gcr.core.phrases import fact
from gcr.core.records import Objection, Rejected, Wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import Critic, Critique, Gallery, Request, Run

Excess = Callable[[str], str]
"""Says of a prompt which tokenizer it is too long for, and by how much; empty if it fits."""

_TAG = re.compile(r"<\w+:[^<>]+>")
LONGEST = 20_000
"""Characters of a prompt: no pipeline reads more."""


def check_critiques(  # noqa: PLR0913, PLR0917 - what was judged, and by whom
    critic: Critic,
    requests: Sequence[Request],
    images: Sequence[Image],
    sources: Sequence[Image | None],
    critiques: Sequence[Critique],
    excess: Excess,
    *,
    tell: bool = False,
) -> list[Critique]:
    """Critiques whose refined prompts keep to the guards, or are None.

    A refined prompt that breaks a guard is sent back to the critic once, those of all critiques
    together; what was turned down stands in `rejected`.

    tell: whether so to tell the critic, too, what a program found to be wrong with the image, which
        it did not know when it wrote the prompt.

    critic: that wrote the critiques. requests, images, sources: what it judged, in the same order.
    excess: of the generator that the prompts are for.
    """
    critiques = [
        replace(critique, refined=with_loras(request, critique.refined))
        for request, critique in zip(requests, critiques, strict=True)
    ]
    objections = {
        i: Objection(request, image, critique, problem, source)
        for i, (request, image, source, critique) in enumerate(
            zip(requests, images, sources, critiques, strict=True)
        )
        if critique.refined
        and (
            problem := complaint(request, critique.refined, excess)
            or (tell and _refutation(critique))
        )
    }
    checked = list(critiques)
    rewrites = critic.rewrite(list(objections.values())) if objections else []
    for (i, objection), refined in zip(objections.items(), rewrites, strict=True):
        checked[i] = _with_rewrite(objection, refined, excess)
    return checked


def _refutation(critique: Critique) -> str:
    """What a program found to be wrong with an image, for whoever words the next prompt."""
    found = "; ".join(map(fact, critique.refuted))
    return found and f"a program looked at the image: {found}"


def _with_rewrite(objection: Objection, refined: str | None, excess: Excess) -> Critique:
    """The critique with its second refined prompt; if that breaks a guard, or is none, with the
    first one, or with none where that broke a guard, too.
    """
    critique, request = objection.critique, objection.request
    refined = with_loras(request, refined)
    first = critique.refined or ""
    rejected = [Rejected(first, objection.complaint)]
    if refined and (problem := complaint(request, refined, excess)):
        rejected.append(Rejected(refined, problem))
        refined = None
    if refined is None and not complaint(request, first, excess):
        refined, rejected = first, rejected[1:]
    return replace(critique, refined=refined, rejected=tuple(rejected))


def check_wordings(
    critic: Critic,
    runs: Sequence[Run],
    wordings: Sequence[Wording | None],
    excess: Excess,
    gallery: Gallery | None = None,
) -> list[Wording | None]:
    """As `check_critiques`, for what a critic worded with all in view that was tried. gallery: as
    it had for that.
    """
    wordings = [
        wording and replace(wording, prompt=with_loras(run.request, wording.prompt))
        for run, wording in zip(runs, wordings, strict=True)
    ]
    rejected = {
        i: Rejected(wording.prompt, problem)
        for i, (run, wording) in enumerate(zip(runs, wordings, strict=True))
        if wording and wording.prompt and (problem := wording_complaint(run, wording, excess))
    }
    checked = list(wordings)
    rejections, failing = list(rejected.values()), [runs[i] for i in rejected]
    again = critic.reword(failing, rejections, gallery) if rejected else []
    for (i, first), second in zip(rejected.items(), again, strict=True):
        checked[i] = _second_wording(runs[i], first, second, excess)
    return checked


def _second_wording(run: Run, first: Rejected, second: Wording | None, excess: Excess) -> Wording:
    """The second wording, without its prompt if that breaks a guard, too."""
    wording = second or Wording(None)
    wording = replace(wording, prompt=with_loras(run.request, wording.prompt))
    rejected = [first]
    if wording.prompt and (problem := wording_complaint(run, wording, excess)):
        rejected.append(Rejected(wording.prompt, problem))
        wording = Wording(None, raw=wording.raw)
    return replace(wording, rejected=tuple(rejected))


def kept(request: Request) -> list[str]:
    """What every rewrite must hold word for word: marked spans, quoted text, `<lora:…>` tags."""
    prompt = request.prompt
    spans = [*request.keep, *_QUOTED.findall(prompt), *_TAG.findall(prompt)]
    return list(dict.fromkeys(spans))


def with_loras(request: Request, rewrite: str | None) -> str | None:
    """A rewrite with the LoRAs of the request, which no critic is shown: they are the user's."""
    missing = [t for t in syntax.lora_tags(request.prompt) if rewrite and t not in rewrite]
    return " ".join([rewrite, *missing]) if rewrite and missing else rewrite


def complaint(request: Request, refined: str, excess: Excess) -> str:  # noqa: PLR0911 - one a rule
    """What is wrong with a rewrite, in words for the critic and the log; empty if nothing is."""
    if len(refined) > LONGEST:
        return f"it has {len(refined)} characters, and no more than {LONGEST} can be read"
    if missing := lost(kept(request), refined):
        return f"it must hold, word for word: {', '.join(missing)}"
    if foreign := [t for t in syntax.lora_tags(refined) if t not in request.prompt]:
        return f"it must not name LoRAs that the request does not: {', '.join(foreign)}"
    if unwanted := _unwanted(request, refined):
        return f"it must not ask for what the user does not want to see: {', '.join(unwanted)}"
    prompt = folded(request.prompt)
    # "OPEN," has its comma from the sentence around it, as American print has it.
    writing = [(text, folded(text).removesuffix(",")) for text in _writing(refined)]
    if invented := [text for text, plain in writing if plain not in prompt]:
        return f"the request asks for no such writing: {', '.join(invented)}"
    if foreign := _new(_matches(_JUDGES_WORDS, refined), request):
        return f"it must only say what is to be seen, without: {', '.join(foreign)}"
    if remarks := _new(_matches(_CRITICS_REMARKS, _QUOTED.sub(" ", refined)), request):
        return f"it must be one request alone, and nothing around it: {', '.join(remarks)}"
    return excess(refined)


_NEGATED = r"""\b(?:no|not|non|never|without|free\s+of|instead\s+of|rather\s+than|avoid\w*|lack\w*
    |neither|nor|devoid\s+of) \b [^.;:,]{0,40}?"""


def _unwanted(request: Request, refined: str) -> list[str]:
    """Phrases of the user's negative prompt that a rewrite brings in, but to rule them out."""
    prompt = folded(request.prompt).casefold()
    text = folded(refined).casefold()
    phrases = [folded(phrase).casefold() for phrase in request.negative.split(",")]
    return [
        phrase
        for phrase in dict.fromkeys(filter(None, phrases))
        if _holds(text, phrase)
        and not _holds(prompt, phrase)
        and _holds(re.sub(rf"{_NEGATED}{re.escape(phrase)}", " ", text, flags=re.VERBOSE), phrase)
    ]


def negative_complaint(request: Request, negative: str, excess: Excess) -> str:
    """As `complaint`, of a negative prompt: it must not forbid what the request asks for."""
    if len(negative) > LONGEST:
        return f"the negative prompt is too long: it has {len(negative)} characters"
    phrases = [phrase.strip() for phrase in negative.split(",")]
    prompt = folded(request.prompt).casefold()
    forbidden = [
        phrase for phrase in phrases if phrase and _holds(prompt, folded(phrase).casefold())
    ]
    if forbidden:
        return f"the negative prompt must not hold what is asked for: {', '.join(forbidden)}"
    if foreign := _matches(_JUDGES_WORDS, negative):
        return f"the negative prompt must only name what is not to be seen: {', '.join(foreign)}"
    over = excess(negative) if negative else ""
    return f"the negative prompt is too long: {over}" if over else ""


def wording_complaint(run: Run, wording: Wording, excess: Excess) -> str:
    """As `complaint`, of a wording; one that was tried before is of no use."""
    if not wording.prompt:
        return ""
    if any(attempt.candidate.prompt == wording.prompt for attempt in run.attempts):
        return "it was tried before"
    return complaint(run.request, wording.prompt, excess) or negative_complaint(
        run.request, wording.negative, excess
    )


def lost(spans: Sequence[str], text: str) -> list[str]:
    """Those of the spans that a text does not hold, whatever its typography and white space."""
    text = folded(text)
    return [span for span in spans if not _holds(text, folded(_without_quotes(span)))]


def _holds(text: str, words: str) -> bool:
    """Whether the words stand in the text, both folded: "OPEN" does not in "OPENED".

    Scripts that put no space between words know no such thing as inside a longer word.
    """
    edges = [r"\b" if re.match(r"[A-Za-z0-9]", sign) else "" for sign in (words[:1], words[-1:])]
    return re.search(re.escape(words).join(edges), text, re.ASCII) is not None


def _new(phrases: Sequence[str], request: Request) -> list[str]:
    """Those of the phrases that the request does not hold."""
    prompt = folded(request.prompt).casefold()
    return [phrase for phrase in phrases if folded(phrase).casefold() not in prompt]


# Text in quotes inside a prompt, which is writing to be drawn.

# Of marks that open and close alike, one after a digit is an inch, and one after a letter opens
# nothing. No mark that opens stands inside its pair, so that no text is looked through twice.
_DOUBLE = r"""(?<![0-9A-Za-z½¼¾])"[^"]+" | (?<![0-9A-Za-z½¼¾])”[^”]+” | ＂[^＂]+＂
    | “[^“”]+” | „[^„“”‟]+[“”‟] | ‟[^‟”]+” | «[^«»]+» | »[^«»]+« | ‹[^‹›]+› | ›[^‹›]+‹
    | 「[^「」]+」 | 『[^『』]+』 | ﹁[^﹁﹂]+﹂ | ﹃[^﹃﹄]+﹄ | 〝[^〝〞〟]+[〞〟]
    | 《[^《》]+》"""
# An apostrophe stands between letters (dog's), after a word (dogs') or in place of what is left
# out before one ('n', 'em, '90s); inside single quotes only the first kind is possible.
_ELISIONS = r"(?:[nNs]|[Ee]m|[Tt]il|[Tt]is|[Tt]was|[Cc]ause|[Bb]out|[Rr]ound|\d0s)\b"
_SINGLE = rf"""(?<![\w'’‘])(?!['‘]{_ELISIONS})
    (?: '(?=\S)(?:[^'\n]|(?<=\w)'(?=\w)|(?<=\s)'[nN]'(?=\s))+?(?<=\S)'
    | ‘(?=\S)(?:[^‘’\n]|(?<=\w)’(?=\w))+’ | ‚[^‚‘’\n]+[‘’] | ＇[^＇\n]+＇ | `[^`\n]+` )(?!\w)"""
_WRITING = re.compile(_DOUBLE, re.VERBOSE)
_QUOTED = re.compile(f"{_DOUBLE} | {_SINGLE}", re.VERBOSE)

_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′ʼ＇`´", "'"),
        **dict.fromkeys("“”„‟″＂«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        "…": "...",
        "\u00ad": "",
        "\u200b": "",
        "\ufeff": "",
    }
)


def quoted(text: str) -> list[str]:
    """Texts in quotes of any kind, without them."""
    return [_without_quotes(span) for span in _QUOTED.findall(text)]


def _writing(text: str) -> list[str]:
    """Texts in double quotes and their like, without them: single ones may only mark a word."""
    return [span[1:-1] for span in _WRITING.findall(text)]


def _without_quotes(span: str) -> str:
    """Which marks a rewrite uses does not matter."""
    return span[1:-1] if _QUOTED.fullmatch(span) else span


def folded(text: str) -> str:
    """The text as it is compared: the same letters whatever the typography and the white space."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY).split())


# What no prompt says: talk of a judge's scores, instructions to a judge, remarks on the prompt.
# Ordinary words are none of it: a player scores a goal, a poster is rated R.

_THING = r"(?:image|picture|attempt|result|output|generation|rewrite|instruction|request|prompt)s?"
_SAYS = r"""(?:is|was|are|asks?|asked|says?|said|requires?|describes?|requests?|requested
    |specif\w+|states?|mentions?|wants?|wanted|calls|must|should|has|and|or|in|above|below|to
    |exactly|precisely|perfectly|closely|faithfully)"""

# Each has one group: the words that are named, and that are fine where the request has them.
_JUDGE = (
    # "score 4.0" is, but "scores 2 goals", "a score of 3 to 1" and "SCORE 4000" are not.
    r"""\b (scor(?:e|es|ed|ing)) \b (?: \W{1,3} (?:of|is|at|as|it) )? \W{1,3}
    (?! (?!100\b) \d{3} ) \d++ (?:\.\d++)?+
    (?! \w | \s+ [a-z]+s \b | \s* [-–:] \s* \d | \s+ (?:to|against) \s+ \d )""",
    r"""\b (?:higher|highest|lower|lowest|low|perfect|full|maximum|max|overall|quality|aesthetic
    |reward|aspect) \s+ (scores?|ratings?) \b""",
    r"""\b high \s+ (scores?|ratings?) \b
    (?! \s+ (?:list|table|board|screen|display|counter)s? \b )""",
    r"\b (full \s+ marks) \b",
    r"""\b (rat(?:e[ds]?|ings?)) \b (?: \W{1,3} (?:of|as|at|it) )? \W{1,3} \d++ (?:\.\d++)?+
    (?! \w | [-\s]+ [a-z]+s? \b )""",
    rf"\b ((?:rate|score|grade|evaluate) \s+ (?:it|this|the \s+ {_THING})) \b",
    r"""\b (?:award|give|assign) \s+ (?:it|this|the \s+ image) \s+ (?:(?:an?|the) \s+)?
    (?:\w+ \s+)? (scores?|ratings?|marks|\d(?:\.\d+)?) \b""",
    r"\b (?:this|your|my|above|previous|earlier) \s+ (critiques?|rubrics?|evaluation|feedback) \b",
    r"""\b (?:per|by|under|to|the) \s+ (?:the \s+)? (critique) \b
    (?! \s+ (?:of|by|session|class|panel|group) \b )""",
    r"""\b ((?:text|image) \s+ faithfulness | prompt \s+ (?:adherence|alignment)
    | detailed \s+ judge?ment | scoring \s+ rubric) \b""",
    rf"""\b (?:the|this|that|your|my|original|initial) \s+ (prompts?) \b
    (?= \s* (?: $ | [^\w\s'’-] | {_SAYS} \b ) )""",
    r"""\b ((?:user(?:['’]?s)?|refined|revised|original) \s+
    (?:request|prompt|instruction)s?) \b""",
    rf"\b ((?:previous|earlier|prior|above) \s+ (?:{_THING}|versions?)) \b",
    rf"""\b (?:the|this|your|my|unlike) \s+ (last \s+ (?:{_THING}|versions?)) \b
    (?! \s+ (?:of|on|in) \b )""",
    r"""\b ((?:ignore|disregard|forget) \s+ (?:\w+ \s+){0,3}
    (?: (?:flaw|error|mistake|instruction|rule|request|prompt|rubric|guideline)s?
    | previous | above | everything | criteria )) \b""",
    r"\b (?:to|dear|attention) \s+ (?:the \s+)? (judges?|evaluators?|graders?|critics?) \s* [:,]",
    # "4/4" is, but "3/4 view", "4/4 time" and "10/10 vision" are not.
    r"""(?<! [\d/.,] ) (4\s*/\s*4 | 5\s*/\s*5 | 10\s*/\s*10 | 100\s*/\s*100
    | \d\.\d+\s*/\s*(?:4|5|10|100))
    (?! [\d/] | \s* (?:time|beat|signature|met(?:er|re)|rhythm|drum|sheet|music|groove|vision)
    \b )""",
    r"""\b (?:quality|scores?|rating|rated|faithfulness|rendering) \W{1,3}
    (\d(?:\.\d+)?\s*/\s*\d+)""",
    r"(?<= [,;(]\s ) (\d\s*/\s*10) (?= \s* (?: $ | [,.;)] ) )",
    r"(\#{2,})",
    r"(?: ^ | (?<=\s) ) (\#) (?= \s+ [A-Za-z] )",
)
_REMARKS = (
    r"\A \W* ((?:sure|certainly|of\ course|absolutely) [!,.]) \s",
    r"""\b (here (?:['’]s|\s+ is|\s+ are) \s+ (?:the|an?|my|your|some|two|three) \s+
    (?:\w+ \s+){0,3} (?:prompt|request|version|rewrite|alternative|option)s?) \b""",
    r"""(?: \A | [\s(\[*_] ) ((?:notes?|explanation|rationale|changes(?:\ made)?|reason(?:ing)?
    |n\.b\.) \s* [:：])""",
    r"(?: \A | [\s(（] | (?<=。) ) ((?:注意?|说明|說明|備考|補足)[:：])",
    r"""\b (i \s+ (?:(?:have|also|just) \s+)? (?:made|added|changed|removed|replaced|adjusted
    |clarified|emphasi[sz]ed|rephrased|reworded|rewrote)) \b""",
    r"\b (this \s+ (?:wording|version|prompt|rewrite|phrasing|emphasi[sz]es|ensures|clarifies)) \b",
    r"\b (let\ me\ know | feel\ free\ to | hope\ this\ helps | i\ hope\ (?:this|it)) \b",
    r"\A [\W_]* ((?:1|a)[.)]) \s .* \s (?:2|b)[.)] \s",
    r"""\b ((?:option|version|alternative) \s+ (?:1|a|one) \b) .{0,1000}?
    \b (?:option|version|alternative) \s+ (?:2|b|two) \b""",
    r"(?: \A | [.!?] \s+ ) (alternatively,)",
    r"\A \s* ([-*•]) \s .* \s [-*•] \s",
    r"""\A \s* ([{\[] \s* "[^"]*" \s* :)""",
    r"(<[|｜][^<>|｜]*[|｜]> | </?(?:answer|response|output|reasoning|think(?:ing)?)>)",
)


def _compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    flags = re.VERBOSE | re.IGNORECASE | re.DOTALL
    return [re.compile(pattern, flags) for pattern in patterns]


_JUDGES_WORDS = _compiled(_JUDGE)
_CRITICS_REMARKS = _compiled(_REMARKS)
"""How remarks beside a prompt begin, and lists of several prompts."""


def _matches(patterns: Sequence[re.Pattern[str]], text: str) -> list[str]:
    """What the patterns' groups hold, each once, in the text's order."""
    matches = [(match.start(1), match[1]) for p in patterns for match in p.finditer(text)]
    return list(dict.fromkeys(phrase for _, phrase in sorted(matches)))
