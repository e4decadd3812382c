"""Find the kind of answer that a question asks for: a person, a place, a date, a number, or anything else.

The kind is read from the question word and from the noun after it, in ten languages.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

import regex


class Kind(Enum):
    """Kind of an answer."""

    PERSON = "person"
    """A name of a person or a group."""
    PLACE = "place"
    DATE = "date"
    YEAR = "year"
    NUMBER = "number"
    QUANTITY = "quantity"
    """A number with its unit."""
    THING = "thing"
    """A name, a title or a noun."""
    YES_NO = "yes/no"
    REASON = "reason"
    """A reason, a way or a description, which requires a clause."""


PERSONS = (
    "actor actress artist athlete author band captain celebrity champion character chancellor comedian composer "
    "conductor creator cricketer dancer designer director emperor englishman engineer explorer father footballer "
    "founder god goddess golfer group guitarist husband inventor king leader man member minister monarch mother "
    "musician novelist painter partner performer person philosopher physicist player playwright poet politician pope "
    "president producer queen rapper ruler scientist screenwriter sculptor singer son songwriter team wife winner "
    "woman writer"
).split()
_VERBS = r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|played|used)"
"""Words that follow the noun that a question asks for: "which team sport is …" does not ask for a team."""
_PLACES = "city country state town place county province continent nation region village island".split()

_KINDS: list[tuple[Kind, str]] = [
    (
        Kind.REASON,
        r"^\W*(?:why|how\s+(?:do|does|did|is|are|was|were|can|could|would|should|has|have|come|to)|describe|explain|warum|weshalb"
        r"|wieso|wodurch|pourquoi|en\s+quoi|comment\s+(?!s['’]appelle)|por\s?qué|por\s?que|cómo\s+(?!se\s+llama)|perché|come\s+(?!si"
        r"\s+chiama)|почему|зачем|как\s+(?!назыв|зовут))\b|\b(?:difference|unterschied|différence|diferencia|differenza)\b"
        r"|为什么|怎么|如何|なぜ|どうして|どうやって|왜|لماذا|كيف|क्यों|कैसे",
    ),
    (
        Kind.YES_NO,
        r"^\W*(?!was\s+(?:ist|sind|war|waren)\b)(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should|am)\b(?!.*\bor\b)|-t-(?:il|elle|ils|elles|on)\b"
        r"(?<!^\W*(?:qui|que|quand|quel|où|comment|combien|en|de|à|dans).*)",
    ),
    (
        Kind.YEAR,
        r"\b(?:what|which)(?:\s+\w+)?\s+years?\b|\bqué\s+año|\bquelle\s+année|\b(?:welchem|welches)\s+jahr|\bque\s+ano\b"
        r"|\b(?:che|quale)\s+anno|\bв\s+каком\s+году|哪一?年|何年|किस\s+(?:वर्ष|साल)|\bhangi\s+yıl|في\s+أي\s+(?:عام|سنة)|몇\s*년",
    ),
    (
        Kind.DATE,
        r"^(?:\W*|.*?[,;]\s*|(?:since|until|from|by)\s+)when\b|\b(?:what|which)\s+(?:\w+\s+)?(?:date|day|month|century|decade)\b"
        r"|\b(?:à\s+)?quelle\s+(?:date|période|époque)|\bde\s+quand\b|\bin\s+welche[rm]\s+(?:zeit|jahrhundert)|\bqué\s+fecha"
        r"|^\W*cuándo\b|^\W*(?:depuis\s+)?quand\b|^\W*(?:seit\s+)?wann\b|^\W*quando\b|^\W*когда\b|什么时候|何时|いつ"
        r"|कब|^متى|\bne\s+zaman|언제",
    ),
    (
        Kind.QUANTITY,
        r"\bhow\s+(?:long|far|tall|high|big|large|old|much|fast|heavy|deep|wide|hot|cold|often|hard)\b|\bqué\s+(?:altura|distancia)"
        r"|\bwie\s+(?:lange?|weit|hoch|groß|alt|schnell|schwer|tief)\b|\bcombien\s+de\s+temps|\b(?:what|which)\s+(?:is|was|are|were)\s+(?:the|its)\s+(?:\w+\s+){0,3}(?:area|height|length|"
        r"distance|temperature|speed|weight|depth|price|cost|altitude|elevation|boiling\s+point|melting\s+point)\b|多长|多高|多远|多大|どのくらい",
    ),
    (
        Kind.NUMBER,
        r"\bhow\s+many\b|\b(?:what|which)\s+(?:\w+\s+)?(?:number|percentage|percent|age)\b|\bwhat\s+(?:is|was)\s+the\s+(?:\w+\s+)?"
        r"(?:population|number|atomic\s+number)\b|\bcuánt[oa]s?\b|\bcombien\b"
        r"|\bwie\s?viele?\b|\bhur\s+många\b|\bhvor\s+mange\b|\bhoeveel\b|^\W*ile\b|\bquant[oaie]s?\b|\bсколько\b|多少|几个|幾|いくつ|何(?:人|個|本|つ)|कितन|\bkaç\b|^كم\b|몇",
    ),
    (
        Kind.PERSON,
        rf"^(?:\W*|.*?[,;]\s*)who(?:m|se)?\b|\b(?:by|to|for|of|from|with|after)\s+whom\b|\bwho\s+(?:is|was)\b"
        rf"|\b(?:which|what)(?:\s+(?:is|was|are|were))?(?:\s+(?!(?:is|was|are|were)\b)[\w'’/-]+){{0,3}}?\s+(?:\w+/)*(?:{'|'.join(PERSONS)})s?\b(?!\s+\w+\s+{_VERBS}\b)"
        r"|^\W*(?:a\s+)?quién(?:es)?\b|^\W*(?:par\s+|à\s+)?qui\b|^\W*(?:von\s+)?we[rmn]\b|^\W*(?:por\s+)?quem\b"
        r"|^\W*(?:da\s+)?chi\b|^\W*(?:кто|кем|кому|кого)\b|谁|誰|कौन|किसने|^من\b|\bkim(?:dir|in)?\b|누가|누구",
    ),
    (
        Kind.PLACE,
        rf"^(?:\W*|.*?[,;]\s*)where\b|\b(?:which|what)(?:\s+[\w'’-]+){{0,3}}?\s+(?:{'|'.join(_PLACES)}|countries|cities)\b"
        r"|^\W*(?:de\s+)?dónde\b|^\W*où\b|^\W*wo(?:her|hin)?\b|\bonde\b|^\W*dove\b|^\W*где\b|\bкакой\s+(?:город|стран)"
        r"|\b(?:qué|que|quelle?|che|quale)\s+(?:país|pays|paese|ciudad|cidade|ville|città)|哪里|哪儿|哪个(?:国家|城市)"
        r"|どこ|कहाँ|कहां|^أين|\bnere(?:de|si)|어디",
    ),
]
_AFTER_PREPOSITION = regex.compile(
    r"^\W*(?:in|on|at|to|from|for|with|by|of|under|against|into|gegen|unter|auf|aus|im|mit|von|zu|an|für|dans|en|de|à|par|contre"
    r"|por|con|para|em|no|na|com|a|di|da|su|в|на|с|к|от|из|i|på|från|till|mot|till|af)\s+\p{L}+",
    regex.IGNORECASE,
)
_BEGINS = regex.compile(r"^\W*(\p{L}+)\s")
_SAME_PREPOSITION = [
    frozenset(words.split())
    for words in (
        "in into im en dans em no na nel nella a à в i at",
        "on auf sur em su на på",
        "against gegen contra contre contro против mot",
        "from aus de da di из från von",
        "to zu nach an à a к till",
        "for für para pour per для för til",
        "by von por par da durch av af",
        "with mit con avec com с med",
        "under unter bajo sous sotto под",
        "of von de di du из",
    )
]
_AUXILIARY = regex.compile(r"\b(?:what|which|who|whom)\b[^?]{0,40}?\b(?:do|does|did)\b", regex.IGNORECASE)
_PATTERNS = [(kind, regex.compile(pattern, regex.IGNORECASE)) for kind, pattern in _KINDS]


@lru_cache(maxsize=1024)
def asked_kind(question: str) -> Kind:
    """Return the kind of answer that a question asks for.

    Examples
    --------
    >>> from probemap.reading.asked import asked_kind
    >>> [asked_kind(question).value for question in ("Who wrote it?", "In which city was he born?", "What is an ion?")]
    ['person', 'place', 'thing']
    """
    return next((kind for kind, pattern in _PATTERNS if pattern.search(question)), Kind.THING)


VALUES = (Kind.YEAR, Kind.DATE, Kind.NUMBER, Kind.QUANTITY)
"""Kinds of answers that are dates or numbers."""


_COUNTRY = regex.compile(
    r"\b(?:country|nation|state|continent|país|pays|paese|(?:welche[ms]|welk|vilket|hvilket) land)\b", regex.IGNORECASE
)


def asks_for_country(question: str) -> bool:
    """Return True if a question asks for a country, a state or a continent.

    In the answer "Lyon, France" to such a question, France is the exact answer.

    Examples
    --------
    >>> from probemap.reading.asked import asks_for_country
    >>> asks_for_country("In which country is Lyon?"), asks_for_country("Where did Apollo 11 land?")
    (True, False)
    """
    return _COUNTRY.search(question) is not None


def asks_for_object(question: str) -> bool:
    """Return True if the answer is not the subject of the question: "What did …", "In which city …".

    Examples
    --------
    >>> from probemap.reading.asked import asks_for_object
    >>> asks_for_object("Which gas do plants absorb?"), asks_for_object("Which gas is absorbed by plants?")
    (True, False)
    """
    return bool(_AFTER_PREPOSITION.match(question) or _AUXILIARY.search(question))


def asked_prepositions(question: str) -> frozenset[str]:
    """Return the preposition with which a question begins ("In which …") and its translations.

    Examples
    --------
    >>> from probemap.reading.asked import asked_prepositions
    >>> sorted(asked_prepositions("Against whom did he lose?"))
    ['against', 'contra', 'contre', 'contro', 'gegen', 'mot', 'против']
    """
    match = _AFTER_PREPOSITION.match(question) and _BEGINS.match(question)
    if not match:
        return frozenset()
    return next((words for words in _SAME_PREPOSITION if match[1].lower() in words), frozenset())
