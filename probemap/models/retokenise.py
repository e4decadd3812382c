"""Convert externally generated texts into answers with token ids.

Hidden states depend on the tokens that a model generated, which cannot always be recovered from the text.  The answers
returned by this module contain the tokens that the tokenizer assigns to the text.  An error is raised if these tokens
do not decode to the same text.  Texts that are canonically equivalent according to Unicode count as the same, because
some tokenizers compose characters; the answers contain the text to which the tokens decode.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from probemap.models.batching import batches
from probemap.models.decoding import decode_with_offsets
from probemap.models.model import Model, out_of_memory_error
from probemap.models.prompts import Prompt, check_embeddings, end_of_turn_id
from probemap.models.reasoning import count_reasoning_tokens, join_reasoning
from probemap.records import Answer, DataError, TextAnswer

if TYPE_CHECKING:
    from probemap.models.engine import Engine


def retokenise_with_logprobs(
    engine: Engine,
    pairs: Sequence[tuple[Prompt, TextAnswer]],
    *,
    batch_size: int = 8,
    batch_tokens: int | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> list[Answer]:
    """Convert texts to answers, with log-probabilities and, if possible, entropies computed by the engine.

    If a prompt is in the format of the model's chat template, the end-of-turn token is appended to the text, unless the
    text was cut off.  Otherwise, no token is appended, because it is unknown which token ended the text.

    Parameters
    ----------
    engine : Engine
    pairs : sequence of (Prompt, TextAnswer)
    batch_size : int, default 8
        Maximum number of texts per batch.
    batch_tokens : int, optional
        Maximum number of tokens per padded batch; see `batching.batches`.
    log : callable, optional
        Called with a message when a batch does not fit in memory and is halved.

    Returns
    -------
    list of Answer
        The answers, in the order of `pairs`.

    Raises
    ------
    DataError
        If the tokens of a text decode to a different text, or if a prompt and its text together exceed the context
        window.
    ModelError
        If a logit is infinite or NaN, or if a single text does not fit in memory.
    """
    answers = retokenise(engine.model, pairs)
    plan = batches([len(answer.token_ids) for answer in answers], batch_size, batch_tokens)
    for reading in engine.read(list(answers), batches=plan, logprobs=True, log=log):
        answer = answers[reading.row]
        if not reading.fits:
            raise out_of_memory_error(engine.model, answer.id, len(answer.token_ids))
        answers[reading.row] = replace(answer, logprobs=reading.logprobs, entropies=reading.entropies)
    return answers


def retokenise(model: Model, pairs: Sequence[tuple[Prompt, TextAnswer]]) -> list[Answer]:
    """Convert texts to answers without log-probabilities.

    See `retokenise_with_logprobs` for the parameters.
    """
    end_id = end_of_turn_id(model) if any(prompt.is_chat for prompt, _ in pairs) else None
    answers = [
        _retokenise(model, prompt, text_answer, end_id if prompt.is_chat else None) for prompt, text_answer in pairs
    ]
    too_long = [a for a in answers if model.window is not None and len(a.token_ids) > model.window]
    if too_long:
        raise DataError(
            f"{len(too_long)} prompts with their texts exceed the context window of {model.label} ({model.window} "
            f"tokens): {too_long[0].id!r} has {len(too_long[0].token_ids)} tokens",
            "shorten or omit these texts",
        )
    return answers


def _retokenise(model: Model, prompt: Prompt, text_answer: TextAnswer, end_id: int | None) -> Answer:
    text, stopped = text_answer.text, text_answer.stopped
    if text_answer.reasoning and text_answer.produced_ids is None:
        marks = model.reasoning_marks
        text = join_reasoning(text_answer.reasoning, text, stopped is not False, prompt=prompt.text, own_marks=marks)
    if text_answer.prompt is None and not prompt.is_chat and text[:1].strip() and prompt.text[-1:].strip():
        text = f" {text}"  # the prompt ends with `A:`, and the space after it was stripped from the text
    if text_answer.produced_ids is None:
        token_ids = _continuation_ids(model, prompt, text)
    else:
        token_ids = list(text_answer.produced_ids)
    if stopped is None:  # an answer that uses up its limit was probably cut off
        stopped = text_answer.max_new_tokens is None or len(token_ids) < text_answer.max_new_tokens
    if text_answer.produced_ids is not None and not (token_ids and token_ids[-1] in model.end_ids):
        token_ids, text = _ids_of_text(model, token_ids, text)
    if token_ids and token_ids[-1] in model.end_ids:  # the text includes its end token
        end_id, token_ids, stopped = token_ids[-1], token_ids[:-1], True
        text = model.tokenizer.decode(token_ids, clean_up_tokenization_spaces=False)
    check_embeddings(model, token_ids, f"the text of {text_answer.id!r}")
    decoded, offsets = decode_with_offsets(model.tokenizer, token_ids)
    # Some tokenizers remove the first space when they decode.
    if unicodedata.normalize("NFC", decoded.lstrip()) != unicodedata.normalize("NFC", text.lstrip()):
        differing = (i for i, (a, b) in enumerate(zip(decoded, text, strict=False)) if a != b)
        first = next(differing, len(decoded))
        raise DataError(
            f"the tokenizer of {model.label} does not reproduce the text of {text_answer.id!r}: the tokens decode to "
            f"{decoded[first : first + 20]!r} instead of {text[first : first + 20]!r}",
            "use the model that generated the answers and their unmodified texts, or omit this answer",
        )
    if end_id is not None and stopped:
        token_ids, offsets = [*token_ids, end_id], [*offsets, (len(decoded), len(decoded))]
    return Answer(
        id=text_answer.id,
        prompt=prompt.text,
        text=decoded,
        token_ids=(*prompt.token_ids, *token_ids),
        n_prompt=len(prompt.token_ids),
        offsets=(*prompt.offsets, *offsets),
        logprobs=(),
        stopped=stopped,
        verdict=text_answer.verdict,
        exact_answer=text_answer.exact_answer,
        n_reasoning=count_reasoning_tokens(prompt.text, decoded, offsets, model.reasoning_marks),
    )


def _ids_of_text(model: Model, token_ids: list[int], text: str) -> tuple[list[int], str]:
    """Return the produced tokens up to the end of a text, and the text that they decode to.

    A text ends before a stop string, and the tokens end after it.  If a token contains the end of the text and the
    beginning of the stop string, the returned text is longer than `text`.  It is also longer if `text` lacks the
    reasoning that precedes the answer.
    """
    decoded, offsets = decode_with_offsets(model.tokenizer, token_ids)
    stripped, tail = text.strip(), text[len(text.rstrip()) :]
    start = decoded.find(stripped) if decoded.lstrip().startswith(stripped) else decoded.rfind(stripped)
    if not stripped or (start < 0 and stripped in model.tokenizer.decode(token_ids, skip_special_tokens=True)):
        return token_ids, decoded  # a server omits special tokens from the text
    if start < 0:
        return token_ids, text
    stop = start + len(stripped)
    stop += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(decoded[stop:], tail, strict=False)))
    if (rest := decoded[stop:]) and not rest.strip("\ufffd"):
        return token_ids, decoded  # a server omits a character of which the model has produced only a part
    kept = [token_id for token_id, (start, _) in zip(token_ids, offsets, strict=True) if start < stop]
    return kept, model.tokenizer.decode(kept, clean_up_tokenization_spaces=False)


def _continuation_ids(model: Model, prompt: Prompt, text: str) -> list[int]:
    """Return the token ids of a text that follows a prompt.

    The text is tokenised together with the prompt if this does not change the token ids of the prompt, and separately
    otherwise.
    """
    joint = model.tokenizer(prompt.text + text, add_special_tokens=False, verbose=False)["input_ids"]
    prompt_ids = list(prompt.token_ids)
    for prefix in (prompt_ids, prompt_ids[1:]):  # the tokenizer may have added a beginning-of-text token
        if joint[: len(prefix)] == prefix:
            return list(joint[len(prefix) :])
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
