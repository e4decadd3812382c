"""Find which answer of a closed set of names, or of those that a question offers, a text asserts."""

from __future__ import annotations

from dataclasses import replace

from probemap.reading.alternatives import compares_differently, conclusion_start
from probemap.reading.asserted import Asserted
from probemap.reading.clauses import chosen_mention
from probemap.reading.names import Groups, find_names
from probemap.reading.stance import Stance, asserted_mentions, mentions_with
from probemap.reading.yes_no import asserted_polarity, polarity_groups


def asserted_name(text: str, groups: Groups, question: str = "") -> Asserted | None:
    """Return the possible answer that a text asserts, or None.

    If the text asserts several, the result is the one whose clause repeats most of the question, or else the first.

    Mentions that are negated, rejected, compared, listed, doubted or withdrawn are ignored.  Mentions in passing
    ("bordering France") are used only if there are no others.  If the answer is mentioned
    first as an adjective and later by its name ("the Canadian province of Quebec, Canada"), the name is returned.  If
    the possible answers are yes and no (or true and false), a negated label asserts the other label.

    Examples
    --------
    >>> from probemap.reading.closed_set import asserted_name
    >>> asserted_name("Spain is not the right country; it is France.", [["Spain"], ["France"]]).value
    1
    """
    if polarity := polarity_groups(groups):
        return asserted_polarity(text, polarity)
    names = find_names(text, groups)
    asserted = asserted_mentions(text, names) or mentions_with(text, names, Stance.ASIDE)
    if not asserted:
        return None
    first = chosen_mention(question, text, asserted)
    name = next((name for name in asserted if name.group == first.group and not name.is_adjective), first)
    return Asserted(name.start, name.stop, name.group, "first name asserted")


def asserted_offer(question: str, text: str, offered: Groups) -> Asserted | None:
    """Return which of the answers that a question offers a text asserts, or None.

    The conclusion of the text, if it has one, decides.  The result is None if the text states a comparison that differs
    from the one in the question ("Bo is younger" for "Who is older?"), because it then asserts either of the answers.

    Parameters
    ----------
    question : str
    text : str
    offered : sequence of sequence of str
        The answers that the question offers, as returned by `offered_answers`.

    Examples
    --------
    >>> from probemap.reading.closed_set import asserted_offer
    >>> text = "Ann was born in 1901 and Bo in 1897, so Bo is older."
    >>> asserted_offer("Who is older, Ann or Bo?", text, [("Ann",), ("Bo",)]).start
    40
    """
    start = conclusion_start(text)
    if compares_differently(question, text[start:]):
        return None
    if asserted := asserted_name(text[start:], offered, question):
        return replace(asserted, start=asserted.start + start, stop=asserted.stop + start)
    return asserted_name(text, offered, question)
