"""What no prompt says: talk of a judge's scores, instructions to a judge, remarks on the prompt.

Ordinary words are none of it: a player scores a goal, a poster is rated R, a court passes judgment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_THING = r"(?:image|picture|attempt|result|output|generation|rewrite|instruction|request|prompt)s?"
_SAYS = r"""(?:is|was|are|asks?|asked|says?|said|requires?|describes?|requests?|requested
    |specif\w+|states?|mentions?|wants?|wanted|calls|must|should|has|and|or|in|above|below|to
    |exactly|precisely|perfectly|closely|faithfully)"""

# Each has one group: the words that are named, and that are fine where the request has them.
_JUDGE = (
    # "score 4.0" is, but "scores 2 goals" and "a score of 3 to 1" are not.
    r"""\b (scor(?:e|es|ed|ing)) \b (?: \W{1,3} (?:of|is|at|as|it) )? \W{1,3} \d++ (?:\.\d++)?+
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
    # "4/4" is, but "3/4 view" and "4/4 time" are not.
    r"""(?<! [\d/.,] ) (4\s*/\s*4 | 5\s*/\s*5 | 10\s*/\s*10 | 100\s*/\s*100
    | \d\.\d+\s*/\s*(?:4|5|10|100)) (?! [\d/] | \s* (?:time|beat|signature|met(?:er|re)) \b )""",
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


_JUDGES_WORDS, _CRITICS_REMARKS = _compiled(_JUDGE), _compiled(_REMARKS)


def of_a_judge(text: str) -> list[str]:
    """The words of a text that only speak of or to a judge, each once, in order."""
    return _words(_JUDGES_WORDS, text)


def remarks(text: str) -> list[str]:
    """How the remarks beside a prompt begin, and lists of several prompts."""
    return _words(_CRITICS_REMARKS, text)


def _words(patterns: Sequence[re.Pattern[str]], text: str) -> list[str]:
    matches = [(match.start(1), match[1]) for p in patterns for match in p.finditer(text)]
    return list(dict.fromkeys(word for _, word in sorted(matches)))
