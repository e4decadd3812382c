"""Recognise texts that decline to answer, in the most widely spoken languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PHRASES: tuple[tuple[str, str], ...] = (
    # Each row holds the stems of its phrases, separated by commas, and a regular expression for a normalised text.  The
    # expression is used only if the text contains a stem, which is several times as fast as a search for all phrases.
    (
        "not ,n't ,unable to ,have no ",
        r"\bi (?:really |do |honestly |currently |just )*(?:do ?n['o]t|don't|cannot|can't"
        r"|can not|could ?n't|am not able to|am unable to|won't|have no) "
        r"(?:actually |really |currently )*(?:know|answer|determine|provide|find|say|tell|help|assist|recall"
        r"|remember|recogni[sz]e|comply|access|verify|confirm|identify|idea|information|knowledge|clue|data"
        r"|have (?:access|enough|that|this|such|any|the|specific|sufficient|real|personal|a)\b)",
    ),
    (
        "i am ,i'm ,im ,i a,i 'm ,i m ,i' ",
        r"\bi'? ?a?m (?:not (?:sure|aware|able|certain|familiar|allowed)|unable|sorry|afraid|unsure|unfamiliar"
        r"|just an? (?:ai|language))",
    ),
    ("as a ,as an ", r"\bas an? (?:ai|artificial|(?:large )?language model)\b"),
    (
        "it is ,it's ",
        r"\b(?:it is|it's) (?:impossible|not possible|unclear|not clear|unknown|not known|difficult|hard)\b"
        r"(?: (?:to|who|what|when|where|which|how|whether|if)\b|[.!]?$)",
    ),
    (
        "there is ,no ",
        r"\bthere is (?:no|not enough|insufficient) (?:\w+ )?(?:answer|information|context|data|record"
        r"|evidence)\b"
        r"|\bno (?:\w+ )?(?:information|data|answer) (?:is |was )?(?:available|provided|given|known|found)\b",
    ),
    (
        " be ",
        r"\b(?:cannot|can'?t|could not|can not) be (?:determined|known|answered|established|verified)\b",
    ),
    (" need ", r"\b(?:would|i'd|i will|i'll) need (?:more|additional|further) (?:context|information|details)\b"),
    (" you ", r"\b(?:could|can|would) you (?:please )?(?:give|provide|clarify|specify|share|tell)\b"),
    (
        "i was unable,i am unable,guess is,too vague,rather not,unknown to,lack the,beats me,no clue,no idea",
        r"\bi (?:was|am) unable to (?:find|determine|locate|say|answer)\b|\bguess is as good\b"
        r"|\b(?:too vague|rather not (?:speculate|say)|unknown to me|lack the information|beats me"
        r"|no (?:clue|idea))\b",
    ),
    (
        "is not ,isn't ,does not ,doesn't ",
        r"\b(?:isn't|is not) (?:publicly )?(?:available|known|specified)\b"
        r"|\b(?:doesn't|does not) (?:mention|say|specify|state)\b",
    ),
    ("please ,knows", r"\bplease (?:provide|clarify|specify|give)\b|\b(?:no one|nobody) knows\b"),
    (
        "in the question,in the text,in the context,in the passage",
        r"\b(?:not|isn't) (?:mentioned|specified|stated|given|provided) in the (?:question|text|context"
        r"|passage)\b",
    ),
    # Spanish, French, German, Portuguese, Italian
    (
        "no sé,no lo s,no se,no tengo,desconozco,lo siento,no puedo,no estoy",
        r"\b(?:no (?:lo )?s[eé]\b|no tengo (?:informaci|acceso|ni idea)|desconozco|lo siento"
        r"|no puedo (?:responder|ayudar|proporcionar))|\bno estoy segur[oa]\b",
    ),
    (
        "je ,désol,desol,aucune id,pas en mesure",
        r"\b(?:je ne (?:sais|connais|peux|dispose)|je n'ai (?:pas|aucune)"
        r"|je ne suis pas (?:s[ûu]re?|certaine?)|d[ée]sol[ée]|aucune id[ée]e)\b"
        r"|\bpas en mesure\b|\bje l'ignore\b",
    ),
    (
        " nicht,keine ,mir leid",
        r"\b(?:wei(?:ß|ss) (?:ich|es|das)?\s*(?:leider )?(?:es )?nicht"
        r"|ich weiß (?:es |das )?(?:leider )?nicht|keine (?:ahnung|information|angabe)|tut mir leid"
        r"|kann ich (?:leider )?nicht|ich kann (?:das |diese frage )?(?:leider )?nicht)\b"
        r"|\bkeine (?:\w+ )?(?:informationen|auskunft|angaben)\b",
    ),
    (
        "não ,nao ,desculpe,non so,non lo so,mi dispiace,non posso",
        r"\b(?:n[ãa]o sei|n[ãa]o tenho informa|desculpe|n[ãa]o posso (?:responder|ajudar)"
        r"|non (?:lo )?so\b|mi dispiace|non posso (?:rispondere|aiutare))\b",
    ),
    # Dutch, Scandinavian languages, Polish, Czech, Hungarian, Romanian, Turkish, Finnish, Vietnamese, Indonesian
    (
        "ik weet,geen informatie,nie wiem,nie mam,jag vet,ingen information,jeg ,bilmiyorum,bilgim yok,maalesef"
        ",en tiedä,nevím,nem tudom,nu s,nu ș,tôi không,tidak tahu,maaf",
        r"\b(?:ik weet (?:het )?niet|geen informatie|nie wiem|nie mam (?:takich )?informacji"
        r"|jag vet inte|ingen information|vet jeg ikke|ved jeg (?:desværre )?ikke|bilmiyorum|bilgim yok"
        r"|maalesef|en tiedä|nevím|nem tudom|nu [sș]tiu|tôi không (?:biết|có thông tin))\b"
        r"|tidak tahu|maaf",
    ),
)
_OTHER_SCRIPTS = re.compile(
    r"не знаю|к сожалению|не могу (?:ответить|помочь)|нет информации"
    r"|我不知道|不知道|我不清楚|不清楚|无法(?:回答|确定|提供)|抱歉|对不起"
    r"|分かりません|わかりません|知りません|申し訳|不明です|모르겠|찾을 수 없|알 수 없"
    r"|لا أعرف|لا أعلم|لا أستطيع|لا يمكنني|آسف|عذرا"
    r"|(?:मुझे|मैं).{0,12}नहीं (?:पता|जानता|मालूम|जानती)|माफ|क्षमा|জানি না"
    r"|δεν (?:ξέρω|γνωρίζω)|לא יודע|ไม่ทราบ|ไม่รู้"
)
_ROWS = tuple((tuple(stems.split(",")), re.compile(pattern)) for stems, pattern in _PHRASES)
_WHOLE = re.compile(
    r"[\s\W]*(?:n/?a|unknown|none|not (?:sure|known|available|applicable|specified|certain|stated"
    r"|enough information)|unsure|no (?:idea|answer|clue|information|comment)|"
    r"unanswerable|unclear|undetermined|idk|dunno|i don'?t know|sorry)[\s\W]*"
)
_BUT = re.compile(
    r"\b(?:but|however|pero|aber|mais|mas|ma)\b(?!,? (?:i|we) (?:can|could|would be happy|am here)\b"
    r"(?: certainly| still| also)? ?"
    r"(?:provide|help|assist|offer|try|tell you (?:about|more)|give you|share|suggest)).{3,}",
    re.DOTALL,
)


def is_refusal(text: str) -> bool:
    """Return True if a text declines to answer ("I don't know", "N/A", "我不知道").

    Examples
    --------
    >>> from probemap.reading.refusal import is_refusal
    >>> is_refusal("I'm sorry, but I cannot say."), is_refusal("The Unknown Soldier was directed by Edvin Laine.")
    (True, False)
    """
    normalised = _normalised(text)
    return bool(_WHOLE.fullmatch(normalised)) or next(_refusals(normalised), None) is not None


def final_refusal(text: str) -> tuple[int, int] | None:
    """Return the range of the words with which a text declines to answer.

    The result is None if the text does not decline, or if it answers nevertheless.

    Examples
    --------
    >>> from probemap.reading.refusal import final_refusal
    >>> final_refusal("I'm sorry, but I cannot say.")
    (0, 9)
    >>> final_refusal("I don't know, but it could be Rome.") is None
    True
    """
    normalised = _normalised(text)
    matches = sorted((match.span() for match in _refusals(normalised)), key=lambda span: span[1])
    if not matches:
        return (0, len(text.rstrip())) if _WHOLE.fullmatch(normalised) else None
    if _BUT.search(normalised[matches[-1][1] :]):
        return None
    start, stop = min(matches)
    return _original_range(text, start, stop)


def _original_range(text: str, start: int, stop: int) -> tuple[int, int]:
    """Return the range of a text that corresponds to a range of the normalised text."""
    indices: list[int] = []
    for word in re.finditer(r"\S+", text):
        if indices:
            indices.append(word.start())
        indices += [i for i in range(*word.span()) for _ in text[i].lower()]
    return indices[start], indices[stop - 1] + 1


def _refusals(text: str) -> Iterator[re.Match[str]]:
    """Yield the phrases of a normalised text that decline to answer."""
    for stems, pattern in _ROWS:
        if any(stem in text for stem in stems):
            yield from pattern.finditer(text)
    if not text.isascii():
        yield from _OTHER_SCRIPTS.finditer(text)


def _normalised(text: str) -> str:
    """Return a text in lower case, with single spaces and straight apostrophes."""
    return " ".join(text.lower().replace("’", "'").split())
