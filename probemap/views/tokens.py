"""Format answers, split into tokens, as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from probemap.positions import DEFAULT_POSITIONS, positions_by_token
from probemap.views.printable import printable
from probemap.views.terminal import shade
from probemap.views.verdicts import verdict_text

if TYPE_CHECKING:
    from probemap.records import Answer, Example, Judgement

_Lines = list[tuple[str, str]]
"""The lines that show one token, as (text, style) pairs."""


def inspect_answer(
    example: Example,
    answer: Answer,
    judgement: Judgement,
    *,
    positions: Sequence[str] = DEFAULT_POSITIONS,
    width: int = 100,
    prompt_tokens: int = 4,
) -> RenderableType:
    """Return one answer split into tokens, with the name of each position below its token.

    Parameters
    ----------
    example : Example
    answer : Answer
    judgement : Judgement
    positions : sequence of str
        Positions to show.
    width : int
        Width of the terminal in characters.
    prompt_tokens : int
        Number of prompt tokens to show before the answer.
    """
    verdict, span = judgement.verdict, judgement.span
    if span:
        exact_answer = f"{printable(span.text)}  (tokens {span.start} to {span.stop - 1})"
    else:
        exact_answer = f"none: {printable(judgement.no_span)}"
    end = "ended by the model" if answer.stopped else "truncated at the token limit"
    text = Text()
    text.append(f"{printable(answer.id)}\n", "bold")
    text.append(f"question      {printable(example.question)}\n")
    text.append(f"accepted      {printable(', '.join(example.answers))}\n")
    text.append(f"answer        {printable(answer.text)}\n")
    text.append(f"verdict       {printable(verdict_text(verdict, answer))}\n")
    text.append(f"exact answer  {exact_answer}\n")
    text.append(f"tokens        {len(answer.token_ids)}, {answer.n_prompt} of them in the prompt; {end}\n")
    return Group(text, *_token_rows(answer, judgement, positions, width, prompt_tokens))


def scored_answer(
    tokens: Sequence[str], token_p_correct: Sequence[float], p_correct: float | None, flagged: bool
) -> Text:
    """Return an answer with coloured tokens, followed by its probability of being correct.

    Parameters
    ----------
    tokens : sequence of str
    token_p_correct : sequence of float
        Probability that the answer is correct, as predicted at each token except the last.  Higher probabilities have
        darker colours; the last token has no colour.
    p_correct : float or None
        Probability that the answer is correct, or None if the detector cannot score the answer.
    flagged : bool
        Whether the probability is below the detector's threshold.
    """
    text = Text()
    for token, p in zip(tokens[:-1], token_p_correct, strict=True):
        text.append(printable(token), style=shade(0.5 + p / 2))
    text.append(printable("".join(tokens[-1:])))
    if p_correct is None:
        return text.append("\n\nnot scored: the answer has no token at the detector's positions")
    text.append(f"\n\nprobability of being correct: {p_correct:.2f}", "bold")
    return text.append(", flagged" if flagged else "")


def _token_rows(
    answer: Answer, judgement: Judgement, positions: Sequence[str], width: int, prompt_tokens: int
) -> Iterator[Text]:
    """Yield rows of tokens that fit in `width` characters."""
    names = positions_by_token(positions, answer, judgement.span)
    row: list[_Lines] = []
    row_width = 0
    for index in range(max(0, answer.n_prompt - prompt_tokens), len(answer.token_ids)):
        lines = _token_lines(answer, judgement, index, names.get(index, []))
        token_width = max(cell_len(line) for line, _ in lines) + 1
        if row and row_width + token_width > width:
            yield _join(row)
            row, row_width = [], 0
        row.append(lines)
        row_width += token_width
    if row:
        yield _join(row)


def _token_lines(answer: Answer, judgement: Judgement, index: int, names: list[str]) -> _Lines:
    """Return the lines that show one token: its text, its index, and the names of its positions."""
    start, stop = answer.offsets[index]
    characters = (answer.prompt if index < answer.n_prompt else answer.text)[start:stop]
    text = printable(characters).replace(" ", "␣") if characters else "∅"
    span = judgement.span
    is_exact = span is not None and span.start <= index < span.stop
    style = "bold reverse" if is_exact else "dim" if index < answer.n_prompt else "bold"
    return [(text, style), (str(index), "dim"), *((name, "cyan") for name in names)]


def _join(tokens: list[_Lines]) -> Text:
    """Join tokens side by side into one row."""
    text = Text(no_wrap=True, overflow="ignore")
    for number in range(max(map(len, tokens))):
        for lines in tokens:
            width = max(cell_len(line) for line, _ in lines) + 1
            line, style = lines[number] if number < len(lines) else ("", "")
            text.append(line, style)
            text.append(" " * (width - cell_len(line)))
        text.append("\n")
    return text
