"""The refined request alone, out of what a critic writes around it.

Critics greet, explain, sign off, quote, apologise, and say in many words that they would change
nothing. What is taken for the request is drawn; what is left of a mixture the guards object to.
"""

from __future__ import annotations

import re
import unicodedata

from gcr.core.plaintext import DIRECTIONS, ESCAPES
from gcr.critic.declined import is_none, is_refusal

_PAIRS = {
    '"': '"',
    "'": "'",
    "`": "`",
    "**": "**",
    "*": "*",
    "“": "”",
    "‘": "’",
    "«": "»",
    "‹": "›",
    "„": "“",
    "「": "」",
    "『": "』",
}
DEEPEST = 6
"""Pairs of marks around a text that are taken off."""
LONG_LINE = 300
"""Characters from which on a line is more than a few words around a request."""

# The request in a critic's own words for it, in some languages.
_CALLED = r"""(?:(?:text-to-image|image|text|user|refined|improved|revised|rewritten|reworded
      |updated|new
    |final|better|enhanced|optimi[sz]ed|modified|suggested|possible|second|another|corrected)\s+)*
    (?:prompt|request|version|instruction|description|rewrite|rewording|wording|refinement)s?"""
_NOUNS = r"""\b(?:prompt|request|version|rewrite|rewording|wording|refinement|refined|revised
    |improved|anfrage|aufforderung|fassung|demande|requête|solicitud|petición|versión|richiesta
    |versione|pedido|versão)s?\b | запрос | промпт | 提示词?|请求|版本|修改后|改进
    | プロンプト|リクエスト
    | 프롬프트|요청"""
_GREETING = r"""(?:sure(?:\ thing)?|certainly|of\ course|absolutely|okay|understood|got\ it
      |here\ (?:it\ is
    |you\ (?:go|are)|they\ are)|natürlich|gerne|bien\ sûr|claro|por\ supuesto|certo|конечно
      |当然(?:可以)?
    |好的|もちろん|물론)"""
# A line of its own that leads to the request: it names it and ends with a colon, or only greets.
_LEADS = re.compile(
    rf"""[\W_]* (?: (?: {_GREETING} \b [^\n]{{0,120}}
      | (?=[^\n]{{0,160}}(?:{_NOUNS})) [^\n]{{1,160}} )
    [:：] [\s*_]* | {_GREETING} [\s!.,。！]*
    | \#{{1,6}} \s [^\n]{{0,60}} (?:{_NOUNS}) [\s*_:]* )""",
    re.VERBOSE | re.IGNORECASE,
)
# The same before the request, on its line.
_LABEL = re.compile(
    rf"""(?: {_GREETING} [!.,。！] \s* )?
    (?: (?: here(?:['’]s|\ is|\ are)\ (?:the|a|an|my|your)\s+ | (?:my|the|your)\s+ )? {_CALLED}
    (?: \ (?:is|would\ be|could\ be|below) )? \s* [:：] \s* )?""",
    re.VERBOSE | re.IGNORECASE,
)
# What begins a line of remarks.
_NOTE = re.compile(
    r"""^ [ \t*_(\[>\#-]*+ (?: notes? | n\.?b\.? | p\.?s\.? | explanations? | reason(?:s|ing)?
      | rationale
    | justification | (?:key\ |my\ )?changes?(?:\ made)? | what\ (?:i\ )?changed
      | why(?:\ this\ works)?
    | comments? | remarks? | improvements? | disclaimer | anmerkung(?:en)? | hinweis | erklärung
    | begründung | änderung(?:en)? | remarque | explication | nota | explicación | observación
    | observação | explicação | spiegazione | примечание | пояснение | 注意?|说明|說明|解释|备注
    | 修改说明
    | 備考|補足|解説|説明 | 참고|설명 ) [ \t*_]*+ [:：]""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
# What begins a paragraph of remarks.
COMMENT = re.compile(
    r"""[\W_]*+ (?: (?:this|these|the|my)\ (?:(?:new|refined|revised|improved|updated|added)\ )*
    (?: wording|version|prompt|rewrite|rewording|request|revision|refinement|changes?|phrasing|way
      |emphasi[sz]es?|ensures?|clarif(?:y|ies)|makes?|should|will|would|helps?|keeps?|adds?
      |address(?:es)?
      |specif(?:y|ies)|preserves?|maintains?|highlights?|avoids?|improves?|is\ (?:more|clearer
      |meant) )
    | i\ (?:have\ |also\ |only\ |would\ |simply\ |just\ )*(?:made|added|changed|removed|kept|moved
      |specified|included|replaced|adjusted|clarified|emphasi[sz]ed|rephrased|reworded|rewrote|hope
      |suggest|recommend|used|tried|wanted)
    | i['’]ve | let\ me\ know | feel\ free | hope\ (?:this|it) | please\ (?:let|note)
      | by\ (?:adding
      |specifying|emphasi[sz]ing|moving|making|naming|explicitly)
    | or[\s:]*$ | alternatively | oder[\s:]*$ | in\ this\ (?:version|prompt|wording)
    | 这样|此(?:提示
      |版本|修改)|我(?:已|将|把|对)
    | diese\ (?:fassung|formulierung|version)|ich\ habe | cette\ (?:version|formulation)|j['’]ai
    | esta\ (?:versión|versão)|he\ (?:añadido|cambiado) ) (?!\w)""",
    re.VERBOSE | re.IGNORECASE,
)
_WRAPPER = (
    r"(?:answer|response|output|result|final(?:[_-]\w+)?"
    r"|(?:(?:refined|improved|new)[_-]?)?(?:prompt|request))"
)
_WRAPPED = re.compile(rf"\s*<({_WRAPPER})>(.*?)(?:</\1>\s*|$)", re.IGNORECASE | re.DOTALL)
_CLOSED = re.compile(
    rf"(?:\s*+(?:</(?:{_WRAPPER}|reasoning|solution|assistant|text|message|critique)>"
    r"|(?<=[\w.!?])</(?:think(?:ing)?|thought)>))+\s*\Z",
    re.IGNORECASE,
)


def refined(text: str) -> str | None:
    """The refined request on one line, out of its quotes and without remarks around it; None where
    there is none: nothing, words for that, or a refusal.
    """
    text = _printable(text).strip()
    text = _closed_off(_out_of_fence(text))
    text = re.sub(r"^[ \t]*>[ \t]?", "", text, flags=re.MULTILINE).strip()
    text = _without_remarks(text)
    first = re.split(r"\n\s*\n", text, maxsplit=1)[0]
    if _unwrap(first) != first.strip():
        # A prompt in quotes on its own, and after it the critic's remarks.
        text = first
    if is_none(text):
        return None
    text = " ".join(_unwrap(_labelled(_unwrap(text))).split())
    if not re.search(r"\w", text) or is_none(text) or is_refusal(text):
        return None
    return text


def _printable(text: str) -> str:
    """The text without escape sequences, changes of direction and other control characters."""
    return "".join(
        sign
        for sign in ESCAPES.sub("", text)
        if sign.isspace()
        or not (
            unicodedata.category(sign) in ("Cc", "Cs")
            or sign in DIRECTIONS
            or sign in "\ufeff\u200b"
        )
    )


def _out_of_fence(text: str) -> str:
    """What stands in a code block that the text begins with, or leads to."""
    before, fence, rest = text.partition("```")
    if not fence or (before.strip() and not before.rstrip().endswith((":", "："))):
        return text
    inside, _, _ = rest.partition("```")
    return re.sub(r"^[\w-]*\n", "", inside)


def _closed_off(text: str) -> str:
    """Out of the tags around it, and without tags at its end that nothing opens."""
    wrapped = _WRAPPED.match(text)
    text = wrapped[2] if wrapped else text
    return text[:-LONG_LINE] + _CLOSED.sub("", text[-LONG_LINE:])


def _without_remarks(text: str) -> str:
    """Without the line that leads to the request, and without the remarks that follow it."""
    for _ in range(2):
        line, end, rest = text.partition("\n")
        if end and rest.strip() and len(line) < LONG_LINE and _LEADS.fullmatch(line.strip()):
            text = rest.strip()
    text = re.split(r"(?<=\S)\s*\n[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*\n", text, maxsplit=1)[0]
    note = next((m for m in _NOTE.finditer(text) if text[: m.start()].strip()), None)
    text = text[: note.start()].strip() if note else text
    kept: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if kept and COMMENT.match(paragraph):
            break
        kept.append(paragraph)
    return "\n\n".join(kept)


def _labelled(text: str) -> str:
    """Without a label before the request, such as `Prompt:`."""
    label = _LABEL.match(text)
    return text[label.end() :] if label and text[label.end() :].strip() else text


def _unwrap(text: str) -> str:
    """Take a text out of the quotes, backticks or bold marks around all of it."""
    text = text.strip()
    for _ in range(DEEPEST):
        for opening, closing in _PAIRS.items():
            inner = text.removeprefix(opening).removesuffix(closing)
            if text == f"{opening}{inner}{closing}" and inner.strip():
                break
        else:
            return text
        if not _is_whole(inner, opening, closing):
            return text
        text = inner.strip()
    return text


def _is_whole(inner: str, opening: str, closing: str) -> bool:
    """Whether marks around a text belong together, unlike those of `"HELLO" above "WORLD"`."""
    if opening != closing:
        between = inner.find(closing), inner.find(opening)
        return between[0] < 0 or 0 <= between[1] < between[0]
    # The first mark inside, apostrophes aside, must open something: it follows a space.
    mark = re.search(rf"(?<!\w){re.escape(opening)}|{re.escape(opening)}(?!\w)", inner)
    return mark is None or (mark.start() > 0 and inner[mark.start() - 1] in " \t\n([{")
