"""Texts that decline to answer, in the most widely spoken languages."""

from __future__ import annotations

import re

_REFUSAL = re.compile(
    r"\bI\s+(?:really\s+|do\s+|honestly\s+|currently\s+|just\s+)*(?:do\s?n['’o]t|don['’]t|cannot|can['’]t"
    r"|can\s+not|could\s?n['’]t|am not able to|am unable to|won['’]t|have no)\s+"
    r"(?:actually\s+|really\s+|currently\s+)*(?:know|answer|determine|provide|find|say|tell|help|assist|recall"
    r"|remember|recogni[sz]e|comply|access|verify|confirm|identify|"
    r"idea|information|knowledge|clue|data|have\s+(?:access|enough|that|this|such|any|the|specific|sufficient|real"
    r"|personal|a)\b)"
    r"|\bI['’]?\s?a?m\s+(?:not\s+(?:sure|aware|able|certain|familiar|allowed)|unable|sorry|afraid|unsure"
    r"|unfamiliar|just\s+an?\s+(?:AI|language))"
    r"|\bas\s+an?\s+(?:AI|artificial|(?:large\s+)?language\s+model)\b"
    r"|\b(?:it\s+is|it['’]s)\s+(?:impossible|not\s+possible|unclear|not\s+clear|unknown|not\s+known|difficult"
    r"|hard)\b(?:\s+(?:to|who|what|when|where|which|how|whether|if)\b|[.!]?$)"
    r"|\bthere\s+is\s+(?:no|not\s+enough|insufficient)\s+(?:\w+\s+)?(?:answer|information|context|data|record"
    r"|evidence)\b"
    r"|\bno\s+(?:\w+\s+)?(?:information|data|answer)\s+(?:is\s+|was\s+)?(?:available|provided|given|known|found)\b"
    r"|\b(?:cannot|can['’]?t|could\s+not|can\s+not)\s+be\s+(?:determined|known|answered|established|verified)\b"
    r"|\b(?:would|I['’]d|I\s+will|I['’]ll)\s+need\s+(?:more|additional|further)\s+(?:context|information|details)\b"
    r"|\b(?:could|can|would)\s+you\s+(?:please\s+)?(?:give|provide|clarify|specify|share|tell)\b"
    r"|\bI\s+(?:was|am)\s+unable\s+to\s+(?:find|determine|locate|say|answer)\b|\bguess\s+is\s+as\s+good\b"
    r"|\b(?:too\s+vague|rather\s+not\s+(?:speculate|say)|unknown\s+to\s+me|lack\s+the\s+information|beats\s+me"
    r"|no\s+(?:clue|idea))\b"
    r"|\b(?:isn['’]t|is\s+not)\s+(?:publicly\s+)?(?:available|known)\b|\b(?:doesn['’]t|does\s+not)\s+(?:mention"
    r"|say|specify|state)\b"
    r"|\bkeine\s+(?:\w+\s+)?(?:informationen|auskunft|angaben)\b|\bpas\s+en\s+mesure\b|\bje\s+l['’]ignore\b"
    r"|\bno\s+estoy\s+segur[oa]\b"
    r"|\b(?:geen\s+informatie|nie\s+mam\s+(?:takich\s+)?informacji|bilgim\s+yok|ingen\s+information"
    r"|vet\s+jeg\s+ikke|ved\s+jeg\s+(?:desværre\s+)?ikke)\b"
    r"|\b(?:en\s+tiedä|nevím|nem\s+tudom|nu\s+[sș]tiu|tôi\s+không\s+(?:biết|có\s+thông\s+tin))\b|모르겠|찾을\s+수\s+없"
    r"|알\s+수\s+없|δεν\s+(?:ξέρω|γνωρίζω)"
    r"|לא\s+יודע|ไม่ทราบ|ไม่รู้"
    r"|\bplease\s+(?:provide|clarify|specify|give)\b|\bno\s+one\s+knows\b|\bnobody\s+knows\b"
    r"|\b(?:not|isn['’]t)\s+(?:mentioned|specified|stated|given|provided)\s+in\s+the\s+(?:question|text|context"
    r"|passage)\b"
    r"|\b(?:no\s+(?:lo\s+)?s[eé]\b|no\s+lo\s+s[eé]|no\s+tengo\s+(?:informaci|acceso|ni\s+idea)|desconozco"
    r"|lo\s+siento|no\s+puedo\s+(?:responder|ayudar|proporcionar))"
    r"|\b(?:je\s+ne\s+(?:sais|connais|peux|dispose)|je\s+n['’]ai\s+(?:pas|aucune)|d[ée]sol[ée]|aucune\s+id[ée]e)\b"
    r"|\b(?:wei(?:ß|ss)\s+(?:ich|es|das)?\s*(?:leider\s+)?(?:es\s+)?nicht|ich\s+weiß\s+(?:es\s+"
    r"|das\s+)?(?:leider\s+)?nicht|keine\s+(?:ahnung|information|angabe)|"
    r"tut\s+mir\s+leid|kann\s+ich\s+(?:leider\s+)?nicht|ich\s+kann\s+(?:das\s+|diese\s+frage\s+)?(?:leider\s+)?nicht)\b"
    r"|\b(?:n[ãa]o\s+sei|n[ãa]o\s+tenho\s+informa|desculpe|n[ãa]o\s+posso\s+(?:responder|ajudar)"
    r"|non\s+(?:lo\s+)?so\b|mi\s+dispiace|non\s+posso\s+(?:rispondere|aiutare)|"
    r"bilmiyorum|maalesef|ik\s+weet\s+(?:het\s+)?niet|nie\s+wiem|jag\s+vet\s+inte)\b"
    r"|не\s+знаю|к\s+сожалению|не\s+могу\s+(?:ответить|помочь)|нет\s+информации|我不知道|不知道|我不清楚|不清楚|无法(?:回答|确定|提供)"
    r"|抱歉|对不起|分かりません|わかりません|知りません|"
    r"申し訳|不明です|لا\s+أعرف|لا\s+أعلم|لا\s+أستطيع|لا\s+يمكنني|آسف|عذرا|(?:मुझे|मैं).{0,12}नहीं\s+(?:पता|जानता|मालूम"
    r"|जानती)|माफ|क्षमा|জানি\s+না|tidak\s+tahu|maaf",
    re.IGNORECASE,
)
_WHOLE = re.compile(
    r"[\s\W]*(?:n/?a|unknown|none|not\s+(?:sure|known|available|applicable|specified|certain|stated"
    r"|enough\s+information)|unsure|no\s+(?:idea|answer|clue|information|comment)|"
    r"unanswerable|unclear|undetermined|idk|dunno|i\s+don['’]?t\s+know|sorry)[\s\W]*",
    re.IGNORECASE,
)
_BUT = re.compile(r"\b(?:but|however|pero|aber|mais|mas|ma)\b.{3,}", re.IGNORECASE | re.DOTALL)


def is_refusal(text: str) -> bool:
    """Return True if a text declines to answer ("I don't know", "N/A", "我不知道").

    Examples
    --------
    >>> from probemap.reading.refusal import is_refusal
    >>> is_refusal("I'm sorry, but I cannot say."), is_refusal("The Unknown Soldier was directed by Edvin Laine.")
    (True, False)
    """
    return bool(_WHOLE.fullmatch(text) or _REFUSAL.search(text))


def declines_and_answers(text: str) -> bool:
    """Return True if words that decline are followed by an answer after all ("I'm not sure, but …")."""
    matches = list(_REFUSAL.finditer(text))
    return bool(matches) and _BUT.search(text[matches[-1].end() :]) is not None
