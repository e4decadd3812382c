"""Locate the exact answer to an open question by rules, without the accepted answers.

The exact answer is what a text adds to the question in its first statement about it: the name, date, number or noun
phrase that stands where the answer is expected, e.g. behind "is", behind "by", or before the verb of the question.
Nothing is located where no such place is found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import regex

from probemap.reading.alternatives import compares_differently, conclusion_start, offered_answers
from probemap.reading.asked import Kind, asked_kind, asked_prepositions, asks_for_object
from probemap.reading.asserted import own_length
from probemap.reading.candidates import (
    ARTICLES,
    BOUNDARIES,
    COPULAS,
    DEMONYM,
    FUNCTION,
    PREPOSITIONS,
    PRONOUNS,
    Candidate,
    Token,
    find_values,
    mark_asked,
    name_runs,
    quoted_parts,
    same_word,
    similarity,
    tokens_of,
    trimmed,
)
from probemap.reading.closed_set import asserted_name
from probemap.reading.refusal import declines_and_answers, is_refusal
from probemap.reading.stance import Stance, sentences, stances
from probemap.reading.uncased import added_part, is_uncased

_VALUES = (Kind.YEAR, Kind.DATE, Kind.NUMBER, Kind.QUANTITY)
_NAMING = frozenset(
    "called named titled entitled dubbed nicknamed namely llamado llamada llama llamaba genannt namens heißt hieß lautet"
    " appelé appelée nommé nommée chamado chamada chama chiamato chiamata chiama называется называют adlı denir hedder"
    .split()
)
_BY = frozenset("by por par von durch door da dal dalla dallo pelo pela av af".split())
_ANSWER = frozenset("answer respuesta antwort réponse resposta risposta ответ cevap".split())
_OF = frozenset("of de di da do du del von des der dei degli della".split())
_IT = frozenset("it that this es ce c' esto eso isso questo это".split())
_IT_IS = frozenset("it's that's c'est it’s that’s c’est".split())
_FIRST_PERSON = frozenset("i we my our".split())
_LIGHT = regex.compile(
    r"(?:branch|type|kind|form|style|genre|species|sort|piece|member|field|part|study|name|game|sport)s?\s+of\s+(?:the\s+|an?\s+)?",
    regex.IGNORECASE,
)
_ANNOUNCED = regex.compile(
    r"[\s*_]*(?:(?:the\s+)?(?:final\s+|short\s+)?answer(?:\s+is)?|a|antwort|respuesta|réponse|risposta|resposta|ответ|assistant|答案|答|回答)[*_]*\s*"
    r"[:：][*_]*\s*(?=\S)", regex.IGNORECASE
)
_LABEL = regex.compile(
    r"\W*(yes|no|oui|non|sí|si|ja|nein|sim|não|да|нет|nee|nej|kyllä|ei|नहीं|हाँ|हां|نعم|لا|はい|いいえ|是的|不是)(?=[\s,.;:!،。，]|$)", regex.IGNORECASE
)
_OPINION = regex.compile(
    r"\b(?:often|commonly|widely|many|most|people|some|popular|sometimes|frequently)\b[^.]*\b(?:assum|believ|belief|thought|think|say|said|"
    r"confus|mistak|named)\w*", regex.IGNORECASE,
)
_CLAUSE = regex.compile(r"[,;]\s+(?=(?:but|while|whereas|although|though|yet)\b)|;\s+|,\s+(?=(?:aber|mais|pero|sondern|sino|mas|ma|но|а)\b)", regex.IGNORECASE)
_LIST_ITEM = regex.compile(r"^\s*(?:\d+[.)]|[-*•])\s+\S", regex.MULTILINE)


def locate_open(question: str, text: str) -> tuple[int, int] | None:
    """Locate the exact answer to an open question.

    Parameters
    ----------
    question : str
    text : str
        Answer without its reasoning.

    Returns
    -------
    tuple of (int, int) or None
        Character range (start, stop) of the exact answer, or None if the rules find none.

    Examples
    --------
    >>> from probemap.grading.open_answers import locate_open
    >>> text = "Athens is the capital of Greece."
    >>> start, stop = locate_open("What is the capital of Greece?", text)
    >>> text[start:stop]
    'Athens'
    """
    text = text[: own_length(text)]
    if announced := _ANNOUNCED.match(text):  # "Answer: Paris"
        found = locate_open(question, text[announced.end() :])
        return None if found is None else (found[0] + announced.end(), found[1] + announced.end())
    if not text.strip() or (is_refusal(text) and not declines_and_answers(text)):
        return None
    if offered := offered_answers(question):
        concluded = conclusion_start(text)
        if compares_differently(question, text[concluded:]):
            return None
        if asserted := asserted_name(text[concluded:], offered):
            return asserted.start + concluded, asserted.stop + concluded
        asserted = asserted_name(text, offered)
        return (asserted.start, asserted.stop) if asserted else None
    kind = asked_kind(question)
    if kind is Kind.REASON:
        return None
    asks_what = any(t.lower in _WHAT for t in tokens_of(question))
    if (label := _LABEL.match(text)) and (kind is Kind.YES_NO or (kind is Kind.THING and not asks_what)):
        return label.span(1)
    if kind is Kind.YES_NO:
        return None
    if is_uncased(text) or (is_uncased(question) and len(text) < 40):
        part = added_part(question, text, kind)
        return (part.start, part.stop) if part else None
    chosen = _Reading(question, text, kind).answer()
    return (chosen.start, chosen.stop) if chosen else None


_ORDINAL_END = regex.compile(r"\b(?:(?:am|den|vom|im|der|dem|zum)\s+\d{1,2}|\p{Lu})\.$")


def _is_loop(text: str) -> bool:
    """Return True if a text repeats the same four words at least three times."""
    words = regex.findall(r"\w+", text.lower())
    counts = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    return any(count >= 3 and len(set(gram)) > 1 for gram, count in counts.items())


def open_candidates(question: str, text: str) -> list[Candidate]:
    """Return the parts of a text that could be the answer to an open question, in the order of the text."""
    text = text[: own_length(text)]
    if not text.strip() or (is_refusal(text) and not declines_and_answers(text)):
        return []
    kind = asked_kind(question)
    if is_uncased(text):
        part = added_part(question, text, kind)
        return [part] if part else []
    return _Reading(question, text, kind).candidates()


@dataclass(frozen=True)
class _Sentence:
    start: int
    stop: int
    tokens: list[Token]
    is_first: bool

    def before(self, candidate: Candidate) -> list[Token]:
        return [t for t in self.tokens if t.stop <= candidate.start]

    def after(self, candidate: Candidate) -> list[Token]:
        return [t for t in self.tokens if t.start >= candidate.stop]


def _is_about(tokens: list[Token], is_first: bool) -> bool:
    """Return True if words before a verb refer to the question."""
    if any(t.is_asked and not t.is_function for t in tokens) or any(t.lower in _ANSWER for t in tokens):
        return True
    if not is_first or not tokens:
        return False
    return (tokens[0].lower in PRONOUNS | {"there"} and len(tokens) <= 2) or tokens[-1].lower in _IT


@dataclass(frozen=True)
class _Reading:
    """A text that answers a question."""

    question: str
    text: str
    kind: Kind

    @cached_property
    def question_tokens(self) -> list[Token]:
        return tokens_of(self.question)

    @cached_property
    def sentences(self) -> list[_Sentence]:
        result: list[_Sentence] = []
        begin = None
        for start, stop in sentences(self.text):
            start, begin = start if begin is None else begin, None
            part = self.text[start:stop]
            if _ORDINAL_END.search(part) and stop < len(self.text):
                begin = start
                continue
            if _OPINION.search(part) and stop < len(self.text.rstrip()):
                continue
            if not part.strip() or regex.search(r"\?[\"'”*)\s]*$", part) or _is_loop(part):
                continue
            tokens = [Token(t.start + start, t.stop + start, t.text, t.folded) for t in tokens_of(part)]
            tokens = mark_asked(tokens, self.question_tokens)
            bounds = [start, *(start + match.end() for match in _CLAUSE.finditer(part)), stop]
            is_first = not result
            for first, last in pairwise(bounds):
                if clause := [t for t in tokens if first <= t.start < last]:
                    result.append(_Sentence(first, last, clause, is_first))
        return result

    def candidates(self) -> list[Candidate]:
        """Return all parts that could be the answer, in the order of the text."""
        found: dict[tuple[int, int], Candidate] = {}
        if (fragment := self._fragment()) is not None:
            found[fragment.start, fragment.stop] = fragment
        for sentence in self.sentences[:8]:
            part = self.text[sentence.start : sentence.stop]
            parts = self._names_in(sentence)
            for kind in (Kind.DATE, Kind.QUANTITY) if self.kind not in _VALUES else (self.kind,):
                parts += [Candidate(c.start + sentence.start, c.stop + sentence.start, c.kind) for c in find_values(part, kind)]
            parts += [p for p in (self._subject_phrase(sentence), self._phrase_in(sentence)) if p is not None]
            for candidate in parts:
                inside = [t for t in sentence.tokens if t.start < candidate.stop and t.stop > candidate.start]
                if not all(t.is_asked for t in inside):
                    found.setdefault((candidate.start, candidate.stop), candidate)
        return self._asserted(list(found.values()))

    def answer(self) -> Candidate | None:
        if len(_LIST_ITEM.findall(self.text)) > 1:
            return self._before_list()
        if self.kind not in _VALUES and (fragment := self._fragment()) is not None:
            return fragment
        for sentence in self.sentences[:6]:
            if (candidate := self._in_sentence(sentence)) is not None:
                return candidate
        return None

    def _fragment(self) -> Candidate | None:
        """Return the name or noun phrase of which the whole text consists, without its article and additions."""
        part = self.text[: len(self.text.rstrip())]
        match = regex.match(r"[^,(\n–—;:=/]+", part.lstrip())
        if match is None or regex.search(r"[.!?]\s+\p{Lu}\p{L}{2}", part) or part.count(",") > 1:
            return None
        tokens = tokens_of(part)
        if len(tokens) > 7 or (len(tokens) > 1 and any(t.lower in COPULAS | PRONOUNS | BOUNDARIES - {"and", "y", "et", "und", "e"} for t in tokens)):
            return None
        start = len(part) - len(part.lstrip())
        inside = [t for t in tokens if t.stop <= start + match.end()]
        if not inside or (len(tokens) > 1 and all(t.is_function for t in inside)) or len(inside) > 5:
            return None
        asked = mark_asked(inside, self.question_tokens)
        if len(inside) > 1 and all(t.is_asked or t.is_function for t in asked):
            return None
        if len(inside) < len(tokens) and inside[-1].text.endswith("ly"):
            return None
        if len(inside) > 1 and any(t.is_asked and not t.is_function for t in asked) and not all(t.is_capital for t in asked):
            return None
        if any(t.lower in _NOT_WHOLE for t in inside) or inside[0].lower in PREPOSITIONS:
            return None
        if len(inside) > 2 and not inside[1].is_capital and inside[0].is_capital and inside[0].lower not in ARTICLES and len(inside) == len(tokens) and self.kind is Kind.PERSON:
            return None
        begin = 1 if len(inside) > 1 and inside[0].lower in ARTICLES and not inside[0].is_capital else 0
        if len(inside) > 1 and inside[0].lower in ARTICLES and not inside[1].is_capital:
            begin = 1
        return trimmed(self.text, inside[begin].start, start + match.end(), "phrase")

    def _before_list(self) -> Candidate | None:
        first = next(_LIST_ITEM.finditer(self.text)).start()
        for sentence in self.sentences:
            if sentence.stop <= first and not self.text[sentence.start : sentence.stop].rstrip(" \n*").endswith(":"):
                if (candidate := self._in_sentence(sentence)) is not None:
                    return candidate
        return None

    def _asserted(self, candidates: list[Candidate]) -> list[Candidate]:
        candidates = sorted(candidates, key=lambda c: (c.start, -c.stop))
        return [
            c
            for c, stance in zip(candidates, stances(self.text, candidates), strict=True)
            if stance is Stance.ASSERTED
        ]

    def _in_sentence(self, sentence: _Sentence) -> Candidate | None:
        if self.kind in _VALUES:
            return self._value_in(sentence)
        candidates = self._asserted(self._names_in(sentence))
        by_cue: dict[str, Candidate] = {}
        for candidate in candidates:
            if cue := self._cue(sentence, candidate):
                by_cue.setdefault(cue, candidate)
        order = ("whole", "naming", "noun", "copula", "start", "agent", "preposition", "object")
        if self.kind is Kind.THING:
            phrase = self._subject_phrase(sentence) or self._phrase_in(sentence)
            if phrase is not None:
                by_cue.setdefault("phrase", phrase)
            order = ("whole", "naming", "noun", "copula", "start", "phrase", "preposition", "object", "agent")
        best = next((by_cue[cue] for cue in order if cue in by_cue), None)
        if best is not None and self.kind is Kind.PLACE:
            best = self._containing_place(best)
        return best

    def _containing_place(self, best: Candidate) -> Candidate:
        """Of "Paris, France", choose France if the question asks for a country."""
        if not regex.search(r"\b(?:country|nation|state|país|pays|land|paese)\b", self.question, regex.IGNORECASE):
            return best
        following = regex.match(r"[*_]*,\s+[*_]*(\p{Lu}[\p{L}-]+(?:\s\p{Lu}[\p{L}-]+)*)(?=[*_]*(?:[.,;)\n]|$))", self.text[best.stop :])
        if following:
            return Candidate(best.stop + following.start(1), best.stop + following.end(1), "name")
        return best

    def _value_in(self, sentence: _Sentence) -> Candidate | None:
        part = self.text[sentence.start : sentence.stop]
        candidates = [
            Candidate(c.start + sentence.start, c.stop + sentence.start, c.kind) for c in find_values(part, self.kind)
        ]
        tokens_in = {
            c: [t for t in sentence.tokens if t.start < c.stop and t.stop > c.start] for c in candidates
        }
        added = [c for c in candidates if not tokens_in[c] or not all(t.is_asked for t in tokens_in[c])]
        added = [c for c in self._asserted(added) if not self._in_parentheses(c)] or []
        if not added:
            return None
        is_about = any(t.is_asked and not t.is_function for t in sentence.tokens)
        if not (is_about or sentence.is_first):
            return None
        if self.kind is Kind.NUMBER and len(added) > 1:
            # "In 2016, there were 12 of them": a year behind "in" is no count.
            counts = [c for c in added if not regex.search(r"\b(?:in|since|by)\s+$", self.text[: c.start], regex.IGNORECASE)]
            added = counts or added
        after_verb = [c for c in added if _AFTER_VERB.search(self.text[sentence.start : c.start])]
        return (after_verb or added)[0]

    def _in_parentheses(self, candidate: Candidate) -> bool:
        before = self.text[: candidate.start]
        return before.rfind("(") > before.rfind(")") and before[: before.rfind("(")].strip() != ""

    def _names_in(self, sentence: _Sentence) -> list[Candidate]:
        """Return the names and the quoted and bold parts that a sentence adds to the question."""
        tokens = sentence.tokens
        candidates = []
        for i, j in name_runs(self.text, tokens, frozenset({0})):
            while i < j and tokens[i].lower in ARTICLES and j - i > 1 and tokens[i].start == tokens[0].start:
                i += 1
            while not self._is_english and j - i > 1 and tokens[i].is_asked and any(same_word(tokens[i], n) for n in self._asked_noun):
                i += 1
            run = tokens[i:j]
            following = tokens[j] if j < len(tokens) else None
            if DEMONYM.fullmatch(run[-1].text) and following is not None and not self._is_gap(run[-1], following):
                if following.text[:1].islower() and not following.is_function:
                    continue
            while len(run) > 2 and self.kind is Kind.PERSON and DEMONYM.fullmatch(run[0].text):
                run = run[1:]
            if self.kind is Kind.PERSON and len(run) > 2 and run[1].lower == "von" and i and tokens[i - 1].text[:1].islower():
                if tokens[i - 1].lower not in COPULAS | _BY | PREPOSITIONS:
                    run = run[2:]
            if all(t.is_asked or t.is_function for t in run) or self._misspells_question(run):
                continue
            if len(run) == 1 and run[0].text.isupper() and len(run[0].text) < 4 and following is not None:
                if following.text[:1].islower() and not following.is_function and not following.is_asked and not self._is_gap(run[0], following):
                    continue
            if i == 0 and len(run) == 1 and following is not None and not self._starts_name(run[0], following):
                continue
            if c := trimmed(self.text, run[0].start, self._stop(run[-1]), "name"):
                candidates.append(c)
        for part in quoted_parts(self.text):
            inside = [t for t in tokens if part.start <= t.start and t.stop <= part.stop]
            if not inside or len(inside) > 7 or not sentence.start <= part.start < sentence.stop:
                continue
            if all(t.is_asked or t.is_function for t in inside):
                continue
            if part.kind == "bold" and any(t.lower in COPULAS for t in inside):
                continue
            if self.kind is not Kind.THING and not any(t.is_capital for t in inside):
                continue
            candidates.append(part)
        return [
            c
            for c in candidates
            if not any(o is not c and o.kind != "name" and o.start <= c.start and c.stop <= o.stop for o in candidates)
        ]

    def _misspells_question(self, run: list[Token]) -> bool:
        """Return True if a name repeats a name of the question with another spelling ("Jef Raschin")."""
        return (
            len(run) > 1
            and any(t.is_asked and not t.is_function for t in run)
            and all(
                t.is_asked or t.is_function or max((similarity(t.folded, q.folded) for q in self.question_tokens), default=0) >= 0.6
                for t in run
            )
        )

    def _stop(self, token: Token) -> int:
        """Return the end of a word with the point of an initial or "Jr."."""
        if self.text[token.stop : token.stop + 1] == "." and regex.fullmatch(r"(?:\p{Lu}|[JS]r)", token.text):
            return token.stop + 1
        return token.stop

    def _is_gap(self, a: Token, b: Token) -> bool:
        return bool(regex.search(r"[,.;:()\n]", self.text[a.stop : b.start]))

    def _starts_name(self, token: Token, following: Token) -> bool:
        """Return True if the capital word that begins a sentence is a name, judged by the word behind it."""
        if token.lower in FUNCTION or token.text.endswith("ly"):
            return False
        gap = self.text[token.stop : following.start]
        if "," in gap and (following.lower in PRONOUNS or following.lower in _IT_IS):
            return False
        gap = self.text[token.stop : following.start]
        return following.is_function or following.is_asked or bool(regex.search(r"[,(.]|—|–", gap)) or following.text.endswith(
            ("s", "ed")
        )

    def _cue(self, sentence: _Sentence, candidate: Candidate) -> str | None:
        """Return the name of the place where a candidate stands in its sentence, or None."""
        before, after = sentence.before(candidate), sentence.after(candidate)
        content = [t for t in before if t.lower not in ARTICLES]
        gap = self.text[(before[-1].stop if before else sentence.start) : candidate.start]
        if not content and not after:
            return "whole"
        if content and content[-1].lower in _NAMING and "also" not in [t.lower for t in content[-3:]]:
            if self.kind is Kind.PERSON and len(content) > 1 and content[-2].is_asked and not content[-2].is_function:
                return None  # another name of what the question is about
            return "naming"
        if (
            content
            and self._asked_noun
            and any(
                any(same_word(t, n) for n in self._asked_noun[:2]) and len(content) - i <= 2 and (len(content) - i == 1 or content[-1].lower in _OF)
                for i, t in enumerate(content[-2:], start=max(0, len(content) - 2))
            )
            and not regex.search(r"[.;:(),]", self.text[content[-1].stop : candidate.start])
        ):
            return "noun"
        if len(content) > 2 and content[-1].lower == "as" and content[-2].lower == "known" and content[-3].lower != "also":
            return "naming"
        if content and regex.fullmatch(r"[*_\s]*:[*_\s\"“]*", gap) and content[-1].lower in ("answer", "respuesta", "antwort", "réponse", "ответ"):
            return "naming"
        # Walk back over the words that describe the candidate: "by the Italian painter …", "is the river …".
        k = len(before)
        n_lower = 0
        while k and n_lower <= 8:
            t = before[k - 1]
            between = self.text[t.stop : (before[k].start if k < len(before) else candidate.start)]
            if regex.search(r"[.;:(\n]|—", between) or ("," in between and k < len(before)):
                break
            if t.lower in COPULAS or t.lower in PREPOSITIONS or t.lower in _BY:
                break
            if t.lower in ("and", "y", "et", "und", "e", "и", "none", "other", "than", "also", "no", "to"):
                k -= 1
                continue
            if t.lower in BOUNDARIES or t.lower in PRONOUNS:
                break
            if t.is_capital and t.lower not in ARTICLES and not DEMONYM.fullmatch(t.text) and k > 1 and not t.is_asked:
                break
            n_lower += t.lower not in ARTICLES
            k -= 1
        if before and regex.fullmatch(r"\s[—–-]\s[*_\"“«]*", gap) and _is_about(before, False):
            return "copula"
        head = before[k - 1] if k else None
        lead = before[:k]
        if head is not None and head.lower in COPULAS and (
            _is_about(lead[:-1], sentence.is_first) or (head.lower in _IT_IS and sentence.is_first)
        ):
            described = before[k:]
            if described and described[0].lower in _INDEFINITE and head.lower not in _IT_IS:
                if self.kind is Kind.PERSON or not self._takes_description(lead[:-1], described[1:]):
                    return None
            return "copula"
        if self.kind is Kind.PERSON and any(t.lower in _FIRST_PERSON for t in before):
            return None
        if head is not None and head.lower in _BY:
            if self._describes_instead(before):
                return None
            return "agent" if self.kind is Kind.PERSON or self._is_about_any(before) else None
        if self._is_start(sentence, candidate, lead) and self._is_predicate(after):
            return "start"
        if not any(t.is_asked for t in before) and not after and len(before) <= 2:
            return "whole"
        if self._is_fragment(sentence, candidate):
            return "whole"
        if self.kind is Kind.PERSON and not self._has_object(before, head):
            return None
        if self._is_about_any(before) and not self._is_subordinate(before):
            if head is not None and head.lower in asked_prepositions(self.question):
                return "preposition"
            if self.kind is Kind.THING and _GERMAN.search(self.question) and candidate.kind == "name" and " " not in self.text[candidate.start : candidate.stop]:
                return None  # a German noun
            return "object"
        return None

    def _has_object(self, before: list[Token], head: Token | None) -> bool:
        if head is not None and (head.is_asked or head.lower in COPULAS):
            return True
        last = max((i for i, t in enumerate(before) if t.is_asked and not t.is_function), default=-1)
        return head is not None and head.lower in ("to", "for", "a", "à") and len(before) - last <= 5

    def _describes_instead(self, before: list[Token]) -> bool:
        """Return True for "The author of Cats is a film directed by …", which describes something else."""
        for i, t in enumerate(before[:-1]):
            if t.lower in COPULAS and before[i + 1].lower in _INDEFINITE:
                return any(same_word(x, n) for x in before[:i] for n in self._asked_noun)
        return False

    def _is_about_any(self, before: list[Token]) -> bool:
        return any(t.is_asked and not t.is_function for t in before) or bool(before and before[0].lower in PRONOUNS)

    def _is_subordinate(self, before: list[Token]) -> bool:
        """Return True if a subordinate clause begins between the last word of the question and the candidate."""
        last = max((i for i, t in enumerate(before) if t.is_asked and not t.is_function), default=-1)
        return any(t.lower in BOUNDARIES for t in before[last + 1 :])

    def _is_start(self, sentence: _Sentence, candidate: Candidate, lead: list[Token]) -> bool:
        if any(t.is_asked and not t.is_function for t in sentence.before(candidate)):
            return False
        return not lead or "," in self.text[lead[-1].stop : candidate.start] or ":" in self.text[lead[-1].stop : candidate.start]

    @cached_property
    def _content(self) -> list[Token]:
        """The words of the question, without question words, function words and the noun behind "which"."""
        noun = self._asked_noun
        return [t for t in self.question_tokens if not t.is_function and t.lower not in _WHAT and t not in noun]

    def _is_predicate(self, after: list[Token]) -> bool:
        """Return True if the words behind a subject say what the question says about its answer."""
        if not any(t.is_asked and not t.is_function for t in after):
            return False
        if asks_for_object(self.question) and after[0].lower not in COPULAS:
            return False
        if any(same_word(t, n) for t in after for n in self._asked_noun):
            return True
        content = self._content
        said = sum(any(same_word(t, c) for t in after) for c in content)
        return 2 * said >= len(content)

    def _is_fragment(self, sentence: _Sentence, candidate: Candidate) -> bool:
        """Return True if the first sentence consists of the candidate and a short addition: "Khartoum, Sudan"."""
        if not sentence.is_first or sentence.before(candidate):
            return False
        if any(t.lower in COPULAS | PRONOUNS or t.is_asked for t in sentence.after(candidate)):
            return False
        return bool(regex.match(r"[\"”*_'’]*\s*(?:[,(\n–—-]|$)", self.text[candidate.stop :]))

    def _phrase_in(self, sentence: _Sentence) -> Candidate | None:
        """Return the noun phrase that stands where the answer is expected, in small letters."""
        tokens = sentence.tokens
        if sentence.is_first and len(tokens) <= 5 and not any(t.lower in COPULAS | PRONOUNS for t in tokens):
            if not any(t.is_asked and not t.is_function for t in tokens):
                return self._phrase(tokens, 0)
        for i, t in enumerate(tokens):
            lead = tokens[: i + 1]
            if any(x.lower in _FIRST_PERSON for x in lead) and not regex.search(r"\byou\b", self.question, regex.IGNORECASE):
                return None
            is_copula = t.lower in COPULAS and _is_about(tokens[:i], sentence.is_first)
            if is_copula and i + 1 < len(tokens) and tokens[i + 1].lower in _INDEFINITE:
                if not self._takes_description(tokens[:i], tokens[i + 2 :]):
                    return None
            if is_copula or (
                self._is_english
                and t.is_asked
                and not t.is_function
                and i + 1 < len(tokens)
                and not tokens[i + 1].is_asked
                and not tokens[i + 1].is_function
                and i > 0
                and not self._is_gap(t, tokens[i + 1])
                and t.text[:1].islower()
            ) or (t.lower == "for" and t.is_asked and _is_about(tokens[:i], False)):
                if phrase := self._phrase(tokens, i + 1):
                    return phrase
        return None

    @cached_property
    def _is_english(self) -> bool:
        return _ENGLISH.search(self.question) is not None

    @cached_property
    def _asked_noun(self) -> list[Token]:
        """The noun behind the question word, or behind "what is the"."""
        tokens = self.question_tokens
        i = next((i for i, t in enumerate(tokens) if t.lower in _WHAT), None)
        if i is None:
            return []
        i += 1
        while i < len(tokens) and (tokens[i].lower in COPULAS or tokens[i].lower in ARTICLES):
            i += 1
        j = i
        while j < len(tokens) and not tokens[j].is_function and j < i + 4:
            j += 1
        return tokens[i:j]

    def _takes_description(self, subject: list[Token], complement: list[Token]) -> bool:
        """Return True if "a …" or "an …" answers the question, and does not only describe what it asks about."""
        if _DEFINES.match(self.question) or _OCCUPATION.search(self.question):
            return True
        noun = self._asked_noun
        if any(t.lower in _PROPER for t in noun):
            return False
        if any(same_word(t, n) for t in [*subject, *complement[:2]] for n in noun):
            return True
        return bool(complement) and _LIGHT.match(self.text[complement[0].start :]) is not None and "stud" in self.question

    def _subject_phrase(self, sentence: _Sentence) -> Candidate | None:
        """Return the noun phrase in small letters that begins a sentence about the question: "Carbon dioxide is …"."""
        tokens = sentence.tokens
        if not tokens or tokens[0].is_asked or not self._is_english:
            return None
        i = int(tokens[0].lower in ARTICLES)
        j = i
        while j < len(tokens) and not (tokens[j].is_function or tokens[j].is_asked or (j > i and self._is_gap(tokens[j - 1], tokens[j]))):
            j += 1
        if not i < j <= i + 4 or j == len(tokens) or not any(t.is_asked and not t.is_function for t in tokens[j:]):
            return None
        verb = next((t for t in tokens[j : j + 6] if t.lower in COPULAS or t.is_asked), None)
        if verb is None or not (tokens[j].lower in COPULAS or tokens[j].is_asked or self._is_gap(tokens[j - 1], tokens[j])):
            return None
        candidate = trimmed(self.text, tokens[i].start, tokens[j - 1].stop, "phrase")
        return candidate if candidate and self._asserted([candidate]) else None

    def _phrase(self, tokens: list[Token], i: int) -> Candidate | None:
        """Return the noun phrase that begins at word i, without its article, if it adds something to the question."""
        is_description = i < len(tokens) and tokens[i].lower in _INDEFINITE
        while i < len(tokens) and (tokens[i].lower in ARTICLES or tokens[i].lower in _SKIPPED):
            i += 1
        while is_description and i + 1 < len(tokens) and tokens[i + 1].text[:1].islower() and (
            DEMONYM.fullmatch(tokens[i].text) or tokens[i].text.isdigit() or tokens[i].lower in _PRAISE
        ):
            i += 1
        j = i
        while j < len(tokens):
            t = tokens[j]
            if j > i and regex.search(r"[,.;:()\n]|—|\s[-–]\s", self.text[tokens[j - 1].stop : t.start]):
                break
            if t.lower in BOUNDARIES or t.lower in COPULAS or t.lower in PRONOUNS:
                break
            if t.is_asked and any(not x.is_asked and not x.is_function for x in tokens[i:j]):
                break
            if t.lower in PREPOSITIONS and t.lower not in ("of", "de") or (j == i and t.is_function):
                break
            j += 1
        while j > i and (tokens[j - 1].lower in FUNCTION or (j > i + 1 and tokens[j - 1].lower in _PARTICIPLES)):
            j -= 1
        if i < j and tokens[i].is_asked and tokens[i].text.endswith("ing"):
            i += 1
            while i < j and tokens[i].lower in ARTICLES:
                i += 1
        phrase = tokens[i:j]
        if not phrase or len(phrase) > 6 or all(t.is_asked or t.is_function for t in phrase):
            return None
        if len(phrase) > 1 and all(t.is_function or any(same_word(t, q) for q in self.question_tokens) for t in phrase):
            return None
        if phrase[-1].text.endswith(("ed", "ing")) and len(phrase) == 1:
            return None
        if j < len(tokens) and tokens[j].lower in ("or", "oder", "ou", "o", "или"):
            return None
        start, stop = phrase[0].start, phrase[-1].stop
        if light := _LIGHT.match(self.text[start:stop]):
            start += len(light[0])
        candidate = trimmed(self.text, start, stop, "phrase")
        return candidate if candidate and self._asserted([candidate]) else None


_AFTER_VERB = regex.compile(r"\b(?:is|was|were|are)\s+(?:\w+ly\s+)?(?:(?:in|on|at|about|around)\s+)?(?:the\s+)?[*_\"“]*$", regex.IGNORECASE)
_NOT_WHOLE = frozenset("no not yes nicht neither nor niet inte non pas viele or by born written invented discovered wrote won oder ou".split())
_INDEFINITE = frozenset("a an un una une ein eine einen um uma uno".split())
_PRAISE = frozenset("professional famous renowned popular well-known former retired prominent successful".split())
_PARTICIPLES = frozenset("written directed produced known named called located used based made composed created founded born".split())
_WHAT = frozenset("who what which welche welcher welches was quel quelle qual quale cuál qué que какой какая какое".split())
_PROPER = frozenset(
    "capital capitale hauptstadt city country state town river lake mountain planet currency language continent island ocean "
    "name company band team country's largest tallest longest highest".split()
)
_DEFINES = regex.compile(
    r"\W*(?:what(?:'s|’s)?|qué|que|was|cos'è|что)\s+(?:(?:is|are|was|were|es|son|ist|sind|é|est-ce\s+que)\s+)?(?:an?\s+|the\s+)?[^?]{1,40}\?*$"
    r"(?<!\b(?:of|for|in|by|von|de|del|du|do|da|di|des)\b.*)", regex.IGNORECASE
)
_OCCUPATION = regex.compile(r"\b(?:occupation|profession|job|do(?:es)? .* do|nationality|kind of|type of|sort of)\b", regex.IGNORECASE)
_GERMAN = regex.compile(r"\b(?:der|das|welche[rsmn]?|wie|wofür|wovon|ist|wurde|und)\b", regex.IGNORECASE)
_ENGLISH = regex.compile(r"\b(?:the|what|which|who|whose|whom|how|where|when|does|did|is|are|were|of)\b", regex.IGNORECASE)
_SKIPPED = frozenset("called known as also named actually simply usually just considered probably likely".split())
