"""Find what a text adds to a question in scripts without capital letters (Chinese, Japanese, Arabic, Hindi, …)."""

from __future__ import annotations

from difflib import SequenceMatcher

import regex

from probemap.reading.asked import Kind
from probemap.reading.candidates import Candidate, trimmed
from probemap.reading.folding import fold
from probemap.reading.sentences import sentences
from probemap.reading.values import find_values

_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")

_ASKS_CHARACTERS = regex.compile(
    r"是?(?:什么|甚麼|何时|何年|谁|誰|哪[里儿个一座位条国年]?|多少|几)(?:山|国|年|人|名)?|ですか|でしょうか|か$|何(?:年|人)?|どこ|どの|いつ|吗|呢"
)
_LEADING = regex.compile(r"^(?:答案|正解)?(?:は|是|为|為|即|叫做?|位于|在|于|由|被|が|の|を|に|で|有|也|：|:|、|，)+")
_TRAILING = regex.compile(
    r"(?:です|でした|である|であり|だった|だ|によって|により|に|で|が|は|を|と|の|所|写|著|创作|的|了|之一|。|，|、)+$"
)
_CUE = regex.compile(r"(?:是|为|為|叫做?|は|由|在|于|คือ|：|:)\s*[《「『\"“]?$")
_BREAK = regex.compile(r"[，,。.！!？?；;、（）()「」『』《》〈〉\"“”\s:：]+")

_FUNCTION = frozenset(
    (
        "है हैं था थी थे हो का की के में से को ने पर और एक यह वह कि भी जो किया गया गई लिखा هي هو هم كان كانت يكون "
        "تكون في من على إلى عن التي الذي هذا هذه ذلك و أن إن تم قام אתה היא הוא של את זה זו היה הייתה על ב هست است "
        "بود از در به که را این آن ہے ہیں তা হল হলো"
    ).split()
)
_SUFFIX = regex.compile(
    r"(?<=\p{Hangul})(?:입니다|이었습니다|였습니다|이에요|예요|이다|이며|이고|에서|에게|으로|은|는|이|가|을|를|에|로|의)$"
)
_COPULA_BEFORE = regex.compile(r"(?<!\p{L})(?:هي|هو|היא|הוא)\s+$")
_ASKS_SPACED = frozenset(
    (
        "क्या कौन कहाँ कहां कब किस किसने कितने कितनी कितना ما من متى أين كم هل أي מי מה איפה متی 무엇입니까 "
        "누구입니까 어디입니까 언제 무엇 누가 어디"
    ).split()
)
_INSTEAD = regex.compile(r"而是|ではなく、?|じゃなく、?|이?\s*아니라|नहीं,?\s+बल्कि|\sبل\s")
_NEGATES = regex.compile(r"不是|并非|ではな|じゃな|아니|नहीं|ليس|(?<!\p{L})(?:لا|לא|ולא)(?!\p{L})")
_MAX_CHARACTERS = 15
_MAX_WORDS = 4


def added_part(question: str, text: str, kind: Kind) -> Candidate | None:
    """Return the single short part that the first statement of a text adds to a question, or None if there is none.

    Parameters
    ----------
    question, text : str
        At least one of them is written in a script without capital letters.
    kind : Kind
        Kind of answer that the question asks for.

    Examples
    --------
    >>> from probemap.reading.asked import Kind
    >>> from probemap.reading.uncased import added_part
    >>> text = "法国的首都是巴黎，位于塞纳河畔。"
    >>> part = added_part("法国的首都是哪里？", text, Kind.PLACE)
    >>> text[part.start : part.stop]
    '巴黎'
    """
    if (
        len(text.strip()) <= _MAX_CHARACTERS
        and not _BREAK.search(text.strip(" \n。."))
        and not regex.search("[是はです]", text)
    ):
        return trimmed(text, 0, len(text), "name")
    for start, stop in sentences(text):
        sentence = text[start:stop]
        if rejected := regex.search(r"\s(?:ולא|وليس)\s", sentence):
            sentence = sentence[: rejected.start()]
        if restored := _INSTEAD.search(sentence):
            start += restored.end()
            sentence = sentence[restored.end() :]
        elif _NEGATES.search(sentence):
            return None
        if regex.search(r"[？?؟]\s*$", sentence) or not sentence.strip():
            continue
        if _ASKS_CHARACTERS.fullmatch(_BREAK.sub("", sentence)):
            continue
        part = _value(question, sentence, kind) or (
            _added_characters(question, sentence)
            if _UNSPACED.search(question + sentence)
            else _added_words(question, sentence)
        )
        if part is not None:
            return trimmed(text, start + part.start, start + part.stop, part.kind)
        if len(_BREAK.sub("", sentence)) > 3:
            return None  # the statement adds no part, or several parts
    return None


def _value(question: str, sentence: str, kind: Kind) -> Candidate | None:
    if kind not in (Kind.YEAR, Kind.DATE, Kind.NUMBER, Kind.QUANTITY):
        return None
    values = find_values(sentence, kind)
    if not values and kind in (Kind.NUMBER, Kind.QUANTITY):
        values = [
            Candidate(m.start(), m.end(), "number")
            for m in regex.finditer(r"[一二两三四五六七八九十百千万亿]+", sentence)
        ]
    return next((v for v in values if sentence[v.start : v.stop] not in question), None)


def _added_characters(question: str, sentence: str) -> Candidate | None:
    asked = _ASKS_CHARACTERS.sub("\n", fold(question)[0])
    matcher = SequenceMatcher(None, sentence.lower(), asked, autojunk=False)
    is_added = [not _BREAK.match(char) for char in sentence]
    is_inner = regex.compile(r"[\p{L}\p{N}] [\p{L}\p{N}]")
    for match in is_inner.finditer(sentence):
        if not _UNSPACED.search(match[0]):
            is_added[match.start() + 1] = True  # a space inside a Latin name
    for block in matcher.get_matching_blocks():
        for i in range(block.a, block.a + block.size):
            if block.size > 1 or i == 0:
                is_added[i] = False
    parts: list[tuple[int, int, bool]] = []
    i = 0
    while i < len(sentence):
        j = i
        while j < len(sentence) and is_added[j]:
            j += 1
        if j > i:
            lead = _LEADING.match(sentence[i:j])
            first = i + (len(lead[0]) if lead else 0)
            tail = _TRAILING.search(sentence[first:j])
            last = first + (tail.start() if tail else j - first)
            inner = list(regex.finditer(r"是|为|為|叫做?|は|由|คือ", sentence[first:last]))
            if inner and inner[-1].end() < last - first:
                first += inner[-1].end()
            if last > first:
                parts.append((first, last, bool(_CUE.search(sentence[:first]))))
        i = max(j, i + 1)
    chosen = next((part for part in parts if part[2]), parts[0] if len(parts) == 1 else None)
    if chosen is None or regex.fullmatch(r"[\p{Hiragana}�]+", sentence[chosen[0] : chosen[1]]):
        return None
    if chosen[1] - chosen[0] > _MAX_CHARACTERS:
        return None
    return Candidate(chosen[0], chosen[1], "name")


def _added_words(question: str, sentence: str) -> Candidate | None:
    def bare(word: str) -> str:
        return str(_SUFFIX.sub("", fold(word)[0]))

    words = list(regex.finditer(r"[\p{L}\p{M}\p{N}'’-]+", sentence))
    asked = {bare(word) for word in regex.findall(r"[\p{L}\p{M}\p{N}'’-]+", question)}
    known = asked | {fold(word)[0] for word in _FUNCTION | _ASKS_SPACED}
    runs: list[list[regex.Match[str]]] = []
    previous = None
    for word in words:
        if bare(word[0]) in known:
            previous = None
            continue
        if previous is not None and not sentence[previous.end() : word.start()].strip():
            runs[-1].append(word)
        else:
            runs.append([word])
        previous = word
    if not runs or len(runs[0]) > _MAX_WORDS or len(runs) > 2:
        return None
    run = next((r for r in runs if _COPULA_BEFORE.search(sentence[: r[0].start()])), runs[0])
    start, stop = run[0].start(), run[-1].end()
    if suffix := _SUFFIX.search(sentence[start:stop]):
        stop = start + suffix.start()
    return Candidate(start, stop, "name") if stop > start else None
