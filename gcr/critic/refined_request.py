"""The refined request alone, out of what a critic writes around it.

Critics greet, explain, sign off, quote, apologise, and say in many words that they would change
nothing. What is taken for the request is drawn; what is left of a mixture the guards object to.
"""

from __future__ import annotations

import re
import unicodedata

from gcr.core.plaintext import DIRECTIONS, ESCAPES

MOST_QUOTES = 6
"""Pairs of marks around a text that are taken off."""
LONG_LINE = 300
"""Characters from which on a line is more than a few words around a request."""
LONGEST_EXCUSE = 2000
"""Characters that are looked at for a word for "none" or a refusal."""


def extract(text: str) -> str | None:
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
    if _is_none(text):
        return None
    text = " ".join(_unwrap(_labelled(_unwrap(text))).split())
    if not re.search(r"\w", text) or _is_none(text) or _is_refusal(text):
        return None
    return text


def is_closed(text: str) -> bool:
    """Whether it ends with an empty line, and `extract` takes no paragraph that follows it."""
    ends = re.search(r"\n[^\S\n]*\n\s*\Z", text) is not None
    return ends and extract(f"{text}A paragraph of a request.") == extract(text)


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
        if kept and _COMMENT.match(paragraph):
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
    for _ in range(MOST_QUOTES):
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


def _is_none(text: str) -> bool:
    """Whether a text says that there is no request: one word for that, with or without a reason.

    Of several lines the first counts where it ends a sentence or a paragraph.
    """
    text = _plain_spaces(text[:LONGEST_EXCUSE].strip(_MARKS))
    match = _NONE.match(text)
    return bool(_NO_PROMPT.match(text)) or bool(match and _is_reason(match["rest"], match["short"]))


def _is_refusal(text: str) -> bool:
    """Whether a text declines to write a request: it begins with an excuse of the writer's own."""
    return bool(_REFUSAL.match(text[:LONGEST_EXCUSE].lstrip(_MARKS)))


def _plain_spaces(text: str) -> str:
    return re.sub(r"[^\S\n]+", " ", text)


def _is_reason(rest: str, short: str) -> bool:
    """Whether what follows a word for "none" is a reason, and not the rest of a prompt."""
    if not rest.strip(_MARKS):
        return True
    if short.casefold() == "no" and re.match(r"\.\s*\d", rest):
        return False  # No. 5
    if re.match(r"['\"”’*_`)\]]*\s*(?:[.。!！(（\[]|\n\s*(?:\n|[A-Z]|[^\x00-\x7f]))", rest):
        return short.casefold() != "no" or bool(_REASON.search(rest))
    joined = re.match(r"\s*[,，、;；:：–—]|\s+-|\s+(?:since|because|as|given|\n)\b", rest)
    return bool(joined and _REASON.search(rest))


# What stands around a request.

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
_COMMENT = re.compile(
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

# The many ways to write no request at all: "none", "no change needed", and refusals. A prompt may
# begin with the same words ("No smoking sign", "None of the chairs are red"), so they must be all
# there is, or be followed by a reason.

_CHANGES = r"""(?:refinement|change|modification|revision|improvement|adjustment|edit|rewrite
      |update|alteration|action|rewording)s?"""
_NEEDED = r"""(?:needed|required|necessary|suggested|recommended|warranted|called\ for|made
      |possible)"""
_GOOD = r"""(?:optimal|perfect|good|fine|correct|complete|ideal|satisfied|sufficient|great|clear
      |adequate)"""
_REQUEST = r"""(?:(?:the|this|your|my|user['’]?s?|original|current|initial|same)\ )*
    (?:request|prompt|wording|image|picture|description|instruction)s?"""

_NONE = re.compile(
    rf"""(?P<short> none (?:\ (?:is|are|was|were))? (?:\ {_NEEDED})? (?:\ (?:at\ all
      |at\ this\ time|here))?
    | n/?\.?a\.? | nil | null | nope | empty | ditto | skip(?:ped)? | unchanged | as[\ -]is
    | i\ would(?:\ not|n['’]t)\ change\ (?:anything|it|a\ thing)
    | (?:there\ is\ )? nothing (?:\ else)? (?:\ (?:to|needs?\ to|has\ to|should|must)\ (?:be\ )?
      (?:chang|improv|refin|add|fix|correct|modif|adjust|alter|do)\w* )? (?:\ {_NEEDED}|\ here)?
    | not\ (?:needed|required|necessary|applicable) (?:\ (?:here|at\ this\ time))?
    | (?:there\ (?:is|are)\ )? no\ (?:(?:further|additional|more|other|major|real|significant
      |prompt|request)\ )* {_CHANGES}
      (?:\ to\ (?:the\ )?(?:request|prompt))? (?:\ (?:is|are|was|were|seems?
      |appears?)(?:\ to\ be)?)?
      (?:\ {_NEEDED})? (?:\ (?:here|at\ this\ time))?
    | (?:there\ is\ )? no\ need (?:\ (?:to|for)\ (?:any\ )?(?:further\ )?(?:chang|refin|modif
      |revis|improv|adjust|rewrit)\w*
      (?:\ (?:anything|it|{_REQUEST}))? )?
    | (?:please\ )?(?:keep|leave|use)\ (?: it | {_REQUEST} | as\ is | unchanged )
      (?:\ (?:as\ (?:it\ )?(?:is|was)|as\ written|unchanged|the\ same|untouched|alone))?
    | (?:please\ )?(?:keep|leave)\ the\ same
    | (?:the\ )?same (?:\ (?:request|prompt))?
      (?:\ as\ (?:(?:the|your|user['’]s)\ )*(?:original|above|before|input|user|request|prompt)
      (?:\ (?:request|prompt))? )? | identical\ to\ {_REQUEST} | identical\ to\ the\ original
    | (?:(?:it|{_REQUEST})\ is\ )?already\ {_GOOD} | {_GOOD}\ as\ (?:it\ )?is | looks\ good

    | (?:没有|沒有)(?:什么)?需要(?:修改|改进|调整|更改|改动)的(?:地方)? | 无|無|没有|沒有
    | 暂无|不变|不變|同上|不要|不用|不需要|无需|無需
    | (?:无需|無需|不需要|不需|不用|不必|没有|沒有|无|無) (?:任何|进一步|進一步|再)?(?:的)?
      (?:修改|更改|优化|優化|改进|改進|调整|調整|改动|改動|变更|變更|细化|改变)
    | 保持(?:不变|不變|原样|原樣|原状) | 与原(?:始)?(?:请求|提示)?(?:词)?(?:相同|一致)
    | なし|無し|特になし|該当なし|必要なし|そのまま | (?:変更|修正|改善|調整)
      (?:は|の必要は)?(?:なし|不要|ありません)
    | (?:変更|修正|改善|調整)の必要(?:は|が)?(?:なし|ない|ありません)(?:です)?
    | 없음|없습니다|해당\ 없음 | (?:수정|변경|개선)(?:이|은)?\ ?
      (?:불필요|없음|필요\ ?없음|필요\ ?없습니다)
    | нет|ничего|не\ (?:требуется|нужно|применимо)|отсутствует|без\ изменений
    | (?:изменени[йяе]|доработк[аи])\ не\ (?:требуется|требуются|нужно|нужны) | немає|без\ змін
    | keine?[rs]? (?:\ (?:weitere\ |weiteren\ )?(?:änderung|verbesserung|anpassung
      |überarbeitung)(?:en)?
      (?:\ (?:ist|sind))?(?:\ (?:nötig|erforderlich|notwendig))?)?
    | nichts(?:\ zu\ (?:ändern|verbessern))?|entfällt|unverändert|nicht\ (?:nötig|erforderlich
      |notwendig)
    | aucune? (?:\ (?:modification|amélioration|changement)s?(?:\ n['’]est)?(?:\ (?:nécessaires?
      |requise?s?))?)?
    | néant|rien|inchangée?|pas\ nécessaire|sans\ objet
    | ningun[ao] (?:\ (?:cambio|modificación|mejora))?(?:\ (?:necesari[oa]|es\ necesari[oa]))?
    | nada|sin\ cambios|no\ es\ necesario|no\ aplica|no\ se\ (?:requiere|necesita)n?\ (?:cambios
      |modificaciones)
    | nenhum(?:a)? (?:\ (?:alteração|mudança|modificação))?(?:\ (?:é\ )?necessári[oa])?
    | não\ (?:é\ necessário|se\ aplica)|sem\ (?:alterações|mudanças)
    | nessun[ao]? (?:\ (?:modifica|cambiamento|miglioramento))?(?:\ (?:è\ )?necessari[oa])?
    | niente|invariato|non\ (?:necessario|applicabile)
    | geen (?:\ (?:wijziging|aanpassing)(?:en)?(?:\ nodig)?)?|niet\ nodig|ongewijzigd
    | brak(?:\ zmian)?|nie\ dotyczy|bez\ zmian|żadn[aey] | yok|gerek\ yok|hiçbiri
      | không(?:\ cần)?|tidak\ (?:ada|perlu)
    | ingen|inga\ ändringar|žádn[áéý] | لا\ شيء|لا\ يوجد|कोई\ नहीं | no )
    (?!\w) (?P<rest>.*)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
# A sentence about the request or the image is none itself.
_NO_PROMPT = re.compile(
    rf"""{_REQUEST}\ (?:already\ )? (?: (?:needs?|requires?)\ no\b
    | (?:does|do)(?:\ not|n['’]t)\ (?:need|require)\b
    | is\ (?:already\ )?{_GOOD} (?:\ as\ (?:it\ )?is)? \s*(?:$|[.,;!])
    | (?:can|should|may)\ (?:stay|remain|be\ kept|be\ left)\b )
    | {_REQUEST}\ (?:already|fully|perfectly|completely)\ (?:meets|satisf|fulfil|matche|shows
      |depicts|follows)""",
    re.VERBOSE | re.IGNORECASE,
)
_REASON = re.compile(
    r"""\b(?: since|because|image|picture|request|prompt|already|need(?:ed|s)?|necessary|required?
    | perfect(?:ly)?|chang\w+|satisf\w+|match\w*|meets?|fulfil\w*|refine\w*|fine|correct\w*
    | optimal|everything|original|bild|anfrage|bereits|schon|demande|déjà|imagen|imagem|petición
      |già )\b
    | изображени|запрос|уже | [图圖画像]|请求|已|满足|需要|符合 | すでに|既に | 이미""",
    re.VERBOSE | re.IGNORECASE,
)
_MARKS = " \t\n.!。！*_`\"'“”‘’「」[]()<>（）【】"

_CANNOT = r"""(?: can(?:['’]?t|not|\ not) | could(?:n['’]?t|\ not) | won['’]?t | will\ not
    | (?:(?:am|['’]m)\ )?(?:not\ able|unable)\ to | (?:must|have\ to)\ decline )"""
_SORRY = r"""(?: (?:i['’]?m|i\ am)\ (?:(?:very|really|so|truly)\ )?(?:sorry|afraid)
    | (?:very\ )?sorry | (?:my|please\ accept\ my)\ (?:sincere\ )?apologies | i\ apologi[sz]e
    | unfortunately | regrettably )"""
_REFUSAL = re.compile(
    rf"""{_SORRY} [\s,.!:;—–-]* (?:but\s+|that\s+|for[^,.]{{0,60}}[,.]\s*(?:but\s+)?)?
      i (?:\ |['’]m) .{{0,12}}? {_CANNOT}
    | {_SORRY} [\s,.!:;—–-]* (?:but\s+)? (?:this|that|your\ request|it)\ (?:goes\ against|violates
      |is\ against|is(?:\ not|n['’]t))
    | {_SORRY} [\s.!]* $ | i\ (?:must|have\ to|need\ to)\ (?:respectfully\ )?(?:decline|refuse)\b
    | (?:{_SORRY} [\s,.!—–-]* (?:but\s+)?)? (?:i|we) \ ? {_CANNOT} \ ?(?:be\ able\ to\ )?
      (?:help|assist|comply|provide|generate|create|fulfil|fulfill|continue|write|rewrite|refine
      |answer|process
      |engage|support|produce|respond|access|discuss|offer|improve|complete|judge|evaluate|draw
      |do\ (?:that|this))\w*
      (?:\ (?:with|that|this|you|your|the|an?|any|to|it|in|such|further|images?|content)\b
      | \s*[.,!]|\s*$)
    | as\ an?\ (?:ai|artificial\ intelligence|large\ language|language)\b[^,.]{{0,40}},?\ i\b
    | (?:this|the|your)\ (?:request|prompt|content|image)\ (?:violates|goes\ against|may\ violate
      |has\ been\ (?:blocked|filtered|flagged)
      |is\ (?:against|not\ (?:allowed|permitted|something))|(?:cannot|can\ not
      |could\ not)\ be\ (?:processed|completed|fulfilled))
    | (?:the\ )?(?:response|content|output|answer|completion)\ (?:was|has\ been|is)\ (?:filtered
      |blocked|flagged|removed)
    | generation\ failed | internal\ server\ error | error\s*:\s*(?:failed|unable|cannot|could
      |invalid|request|model|timeout|internal)
    | traceback\ \(most\ recent
    | (?:es\ )?tut\ mir\ (?:sehr\ )?leid[\s,.]*(?:aber\ )?(?:ich|das|dabei|$) | leider\ (?:kann
      |darf|ist\ es\ mir)
    | entschuldigung,?\ (?:aber\ )?ich | ich\ kann\ (?:dabei|ihnen|dir|diese\w*
      |das)\b.{{0,60}}\bnicht
    | (?:je\ suis\ )?(?:vraiment\ )?désolée?[\s,.]*(?:mais\ )?(?:je|$) | je\ ne\ (?:peux|suis
      |puis)\b | malheureusement,?\ je
    | lo\ siento[\s,.]*(?:pero\ )?(?:no\b|$) | (?:lamentablemente,?\ )?no\ puedo\ (?:ayudar
      |cumplir|generar|crear|proporcionar|asistir|responder|procesar)
    | desculpe?[\s,.]*(?:mas\ )?(?:eu\ )?(?:não|$) | sinto\ muito
      | (?:infelizmente,?\ )?(?:eu\ )?não\ posso\ (?:ajudar|gerar|criar|atender|fornecer)
    | mi\ dispiace[\s,.]*(?:ma\ )?(?:non|$) | (?:purtroppo\ )?non\ posso\ (?:aiutar|generare
      |creare|fornire|soddisfare)
    | het\ spijt\ me | sorry,\ (?:maar\ )?ik\b | przepraszam[\s,.]*(?:ale\ )?(?:nie|$)
      | niestety,?\ nie
    | (?:извините|простите|к\ сожалению|мне\ жаль)[\s,.]*(?:но\ )?(?:я|этот|эта|это|$)
      | я\ не\ могу\ (?:помочь|выполнить|создать|ответить)
    | (?:很|非常|十分)?(?:抱歉|对不起|對不起)[\s,，。！!]*
      (?:但)?(?:是)?(?:我|这|這|您|无法|無法|不能|$)
    | 我(?:无法|不能|没办法|無法)
      (?:协助|帮助|满足|提供|生成|处理|回答|完成|继续|為|为)
    | 作为(?:一个|一名)?(?:AI|人工智能)
    | (?:大変)?申し訳(?:あり|ござい)
    | (?:すみません|ごめんなさい)(?:が|[、。\s]*(?:その|この|お|$))
    | お(?:手伝い|答え)(?:でき|すること)
    | 죄송(?:합니다|하지만|해요) | 미안하지만 | عذر | آسف | أعتذر | मुझे\ (?:खेद|माफ|क्षमा) | क्षमा\ करें
    | üzgünüm[\s,.]*(?:ama|bu|$) | maalesef | xin\ lỗi[\s,.]*(?:nhưng|tôi|$)
      | maaf[\s,.]*(?:tetapi|tapi|saya|$)
    | вибачте[\s,.]*(?:але|я|$) | (?:jag\ är\ )?(?:tyvärr|ledsen)[\s,.]*(?:men\ )?(?:jag|kan)""",
    re.VERBOSE | re.IGNORECASE,
)
