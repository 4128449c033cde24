"""The many ways to write no request at all: "none", "no change needed", and refusals.

A prompt may begin with the same words: "No smoking sign", "None of the chairs are red",
"Nothing but sky". So the words must be all there is, or be followed by a reason.
"""

from __future__ import annotations

import re

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
LONGEST = 2000
"""Characters of a text that are looked at: reasons and excuses are no longer."""


def is_none(text: str) -> bool:
    """Whether a text says that there is no request: one word for that, with or without a reason.

    Of several lines the first counts where it ends a sentence or a paragraph.
    """
    text = _plain_spaces(text[:LONGEST].strip(_MARKS))
    match = _NONE.match(text)
    return bool(_NO_PROMPT.match(text)) or bool(match and _is_reason(match["rest"], match["short"]))


def is_refusal(text: str) -> bool:
    """Whether a text declines to write a request: it begins with an excuse of the writer's own."""
    return bool(_REFUSAL.match(text[:LONGEST].lstrip(_MARKS)))


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
