"""What a question asks for: the kind of its answer, the noun behind the question word, and its language.

The kind is read from the question word and from the noun behind it, in ten languages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import regex

from probemap.reading.grammar import ARTICLES, COPULAS
from probemap.reading.tokens import Token, tokens_of


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
    """A reason, a way or a description, which takes a clause."""


_PERSONS = (
    "actor actress artist athlete author band captain celebrity champion character chancellor comedian composer "
    "conductor creator cricketer dancer designer director emperor englishman engineer explorer father footballer "
    "founder god goddess golfer group guitarist husband inventor king leader man member minister monarch mother "
    "musician novelist painter partner performer person philosopher physicist player playwright poet politician pope "
    "president producer queen rapper ruler scientist screenwriter sculptor singer son songwriter team wife winner "
    "woman writer"
).split()
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
        r"|\bwie\s+(?:lange?|weit|hoch|groß|alt|schnell|schwer|tief)\b|\bcombien\s+de\s+temps|\b(?:what|which)\s+(?:is|was|are|were)\s+(?:the|its)\s+(?:\w+\s+)?(?:area|height|length|"
        r"distance|temperature|speed|weight|depth|price|cost|altitude|elevation|boiling\s+point|melting\s+point)\b|多长|多高|多远|多大|どのくらい",
    ),
    (
        Kind.NUMBER,
        r"\bhow\s+many\b|\b(?:what|which)\s+(?:\w+\s+)?(?:number|percentage|percent|age)\b|\bwhat\s+(?:is|was)\s+the\s+(?:\w+\s+)?"
        r"(?:population|number|atomic\s+number)\b|\bcuánt[oa]s?\b|\bcombien\b"
        r"|\bwie\s?viele?\b|\bquant[oaie]s?\b|\bсколько\b|多少|几个|幾|いくつ|何(?:人|個|本|つ)|कितन|\bkaç\b|^كم\b|몇",
    ),
    (
        Kind.PERSON,
        rf"^(?:\W*|.*?[,;]\s*)who(?:m|se)?\b|\b(?:by|to|for|of|from|with|after)\s+whom\b|\bwho\s+(?:is|was)\b"
        rf"|\b(?:which|what)(?:\s+[\w'’/-]+){{0,3}}?\s+(?:\w+/)*(?:{'|'.join(_PERSONS)})s?\b"
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


def asked_kind(question: str) -> Kind:
    """Return the kind of answer that a question asks for.

    Examples
    --------
    >>> from probemap.reading.asked import asked_kind
    >>> [asked_kind(question).value for question in ("Who wrote it?", "In which city was he born?", "What is an ion?")]
    ['person', 'place', 'thing']
    """
    return next((kind for kind, pattern in _PATTERNS if pattern.search(question)), Kind.THING)


_WHAT = frozenset(
    ("who what which welche welcher welches was quel quelle qual quale cuál qué que какой какая какое").split()
)
_ENGLISH = regex.compile(
    r"\b(?:the|what|which|who|whose|whom|how|where|when|does|did|is|are|were|of)\b", regex.IGNORECASE
)
_GERMAN = regex.compile(r"\b(?:der|das|welche[rsmn]?|wie|wofür|wovon|ist|wurde|und)\b", regex.IGNORECASE)
_VALUES = (Kind.YEAR, Kind.DATE, Kind.NUMBER, Kind.QUANTITY)


@dataclass(frozen=True)
class Question:
    """A question, and what it asks for.

    Examples
    --------
    >>> from probemap.reading.asked import Question
    >>> question = Question("Which gas do plants absorb?")
    >>> question.kind.value, [token.text for token in question.noun], question.asks_for_object
    ('thing', ['gas'], True)
    """

    text: str

    @cached_property
    def kind(self) -> Kind:
        """Kind of answer that the question asks for."""
        return asked_kind(self.text)

    @property
    def asks_for_value(self) -> bool:
        """True if the answer is a date or a number."""
        return self.kind in _VALUES

    @cached_property
    def tokens(self) -> list[Token]:
        """Words of the question."""
        return tokens_of(self.text)

    @property
    def has_question_word(self) -> bool:
        """True if the question contains a word such as "what" or "which"."""
        return any(token.lower in _WHAT for token in self.tokens)

    @cached_property
    def noun(self) -> list[Token]:
        """The words behind "which", or behind "what is the", up to a function word; at most four words."""
        tokens = self.tokens
        i = 1 + next((i for i, token in enumerate(tokens) if token.lower in _WHAT), len(tokens))
        if i < len(tokens) and tokens[i - 1].lower == "who" and tokens[i].lower not in COPULAS:
            return []  # "who wrote"
        while i < len(tokens) and (tokens[i].lower in COPULAS or tokens[i].lower in ARTICLES):
            i += 1
        j = i
        while j < len(tokens) and not tokens[j].is_function and j < i + 4:
            j += 1
        return tokens[i:j]

    @cached_property
    def content(self) -> list[Token]:
        """The words of the question, without question words, function words, and `noun`."""
        return [t for t in self.tokens if not t.is_function and t.lower not in _WHAT and t not in self.noun]

    @cached_property
    def asks_for_object(self) -> bool:
        """True if the answer is not the subject of the question: "What did …", "In which city …"."""
        return bool(_AFTER_PREPOSITION.match(self.text) or _AUXILIARY.search(self.text))

    @cached_property
    def prepositions(self) -> frozenset[str]:
        """The words, in all languages, for the preposition with which the question begins ("In which …")."""
        match = _AFTER_PREPOSITION.match(self.text) and _BEGINS.match(self.text)
        if not match:
            return frozenset()
        return next((words for words in _SAME_PREPOSITION if match[1].lower() in words), frozenset())

    @cached_property
    def is_english(self) -> bool:
        """True if the question contains common English words."""
        return _ENGLISH.search(self.text) is not None

    @cached_property
    def is_turkish(self) -> bool:
        """True if the question contains Turkish letters, so that an ending may follow a name behind an apostrophe."""
        return regex.search(r"[ığş]", self.text) is not None

    @cached_property
    def is_german(self) -> bool:
        """True if the question contains common German words, so that every noun begins with a capital."""
        return _GERMAN.search(self.text) is not None
