"""Find which answer of a closed set of names a text asserts."""

from __future__ import annotations

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
