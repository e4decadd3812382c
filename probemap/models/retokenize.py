"""Texts from elsewhere as if this model had said them here: ids made once and checked, log-probabilities by one pass.

The states of a text depend on its tokens, and a text does not tell which tokens a model produced.  What is made here
are the tokens that the tokenizer gives it; that they decode to the same text is checked, never assumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from probemap.models.batching import batches, run_with_halving
from probemap.models.decoding import decode_with_offsets
from probemap.models.generate import out_of_memory_error
from probemap.models.logits import logits_at, non_finite_error
from probemap.models.model import Model
from probemap.models.prompts import Prompt, end_of_turn_id
from probemap.models.reasoning import count_reasoning_tokens
from probemap.records import Answer, DataError, TextAnswer


def retokenise_with_logprobs(
    model: Model,
    pairs: Sequence[tuple[Prompt, TextAnswer]],
    *,
    chat: bool,
    batch_size: int = 8,
    batch_tokens: int | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> list[Answer]:
    """Replies as answers, in their order.

    Parameters
    ----------
    chat: prompts are in the model's chat template; a reply that was not cut off then ends with the token that ends a
        turn.  What ended another reply is not known, and nothing is added.
    batch_tokens: of a batch, as for `batching.batches`.

    Raises
    ------
    DataError: the tokenizer does not give a text back, or prompt and text do not fit the model's window.
    ModelError: a logit is not finite, or one text alone does not fit the memory.
    """
    answers = retokenise(model, pairs, chat=chat)
    for batch in batches([len(a.token_ids) for a in answers], batch_size, batch_tokens):

        def read(some: list[int]) -> list[list[float]]:
            return _logprobs(model, [answers[i] for i in some])

        for rows, logs in run_with_halving(batch, read, log):
            if logs is None:
                raise out_of_memory_error(model, answers[rows[0]].id, len(answers[rows[0]].token_ids))
            for i, values in zip(rows, logs, strict=True):
                answers[i] = replace(answers[i], logprobs=tuple(values))
    return answers


def retokenise(model: Model, pairs: Sequence[tuple[Prompt, TextAnswer]], *, chat: bool) -> list[Answer]:
    """Replies as answers without log-probabilities; parameters and errors as of `retokenise_with_logprobs`."""
    end = end_of_turn_id(model) if chat else None
    answers = [_tokenised(model, prompt, reply, chat, end) for prompt, reply in pairs]
    long = [a for a in answers if model.window is not None and len(a.token_ids) > model.window]
    if long:
        raise DataError(
            f"{len(long)} prompts with their texts do not fit the window of {model.label}, {model.window} tokens: "
            f"{long[0].id!r} has {len(long[0].token_ids)}",
            "shorten or leave out these texts",
        )
    return answers


def _tokenised(model: Model, prompt: Prompt, reply: TextAnswer, chat: bool, end: int | None) -> Answer:
    text = reply.text
    if reply.prompt is None and not chat and text[:1].strip() and prompt.text[-1:].strip():
        text = f" {text}"  # `A:` is followed by a space; who kept the text has trimmed it
    produced, stopped = _produced_ids(model, prompt, text), reply.stopped
    ends = model.end_ids()
    if produced and produced[-1] in ends:  # the text has its end written out
        end, produced, stopped = produced[-1], produced[:-1], True
        text = model.tokenizer.decode(produced, clean_up_tokenization_spaces=False)
    decoded, offsets = decode_with_offsets(model.tokenizer, produced)
    if decoded.lstrip() != text.lstrip():  # some tokenizers drop the first space when they decode
        at = next((i for i, (a, b) in enumerate(zip(decoded, text, strict=False)) if a != b), len(decoded))
        raise DataError(
            f"the tokenizer of {model.label} does not give the text of {reply.id!r} back: "
            f"{decoded[at : at + 20]!r} for {text[at : at + 20]!r}",
            "is it the model that made the answers?  take texts as they were produced, or leave this one out",
        )
    if end is not None and stopped:
        produced, offsets = [*produced, end], [*offsets, (len(decoded), len(decoded))]
    return Answer(
        id=reply.id,
        prompt=prompt.text,
        text=decoded,
        token_ids=(*prompt.token_ids, *produced),
        n_prompt=len(prompt.token_ids),
        offsets=(*prompt.offsets, *offsets),
        logprobs=(),
        stopped=stopped,
        verdict=reply.verdict,
        n_reasoning=count_reasoning_tokens(prompt.text, decoded, offsets),
    )


def _produced_ids(model: Model, prompt: Prompt, text: str) -> list[int]:
    """The text's ids: as a continuation where the prompt's tokens stay what they are, else of the text alone."""
    whole = model.tokenizer(prompt.text + text, add_special_tokens=False, verbose=False)["input_ids"]
    before = list(prompt.token_ids)
    for begun in (before, before[1:]):  # the first may be the beginning-of-text token that the tokenizer adds
        if whole[: len(begun)] == begun:
            return list(whole[len(begun) :])
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _logprobs(model: Model, answers: Sequence[Answer]) -> list[list[float]]:
    """The log-probability of every produced token, given all before it."""
    where = [(i, j) for i, a in enumerate(answers) for j in range(a.n_prompt - 1, len(a.token_ids) - 1)]
    if not where:
        return [[] for _ in answers]
    rows, columns = zip(*where, strict=True)
    logits = logits_at(model, [a.token_ids for a in answers], rows, columns).float()
    ids = torch.tensor([answers[i].token_ids[j + 1] for i, j in where], device=logits.device)
    chosen = logits.gather(1, ids[:, None]).squeeze(1) - logits.logsumexp(-1)
    if not bool(chosen.isfinite().all()):
        raise non_finite_error(model)
    return [list(part) for part in torch.split(chosen.cpu(), [len(a.produced_ids) for a in answers])]
