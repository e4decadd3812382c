"""p(True): the model is asked whether its own answer is true (Kadavath et al. 2022, arXiv 2207.05221).

What is read is not what it would say but how likely each of the two letters is as the next token.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from probemap.models.batching import batches, run_with_halving
from probemap.models.generate import out_of_memory_error
from probemap.models.logits import logits_at, non_finite_error
from probemap.models.model import Model
from probemap.models.prompts import Prompt, PromptFormat, check_lengths, make_prompt
from probemap.records import Example, ModelError, Task

# The whole question is the filled-in field, so braces in questions and answers stay what they are.
_TRUTH = Task("p(True)", (), "open", prompt="{question}")

_OPENING = " ("
"""Begins the reply, so that the next token is the letter itself, however the model likes to begin."""


def p_true_question(example: Example, answer: str) -> str:
    """What the model is asked about its answer: Kadavath's words, after the context and choices if there are any."""
    context = f"{example.context}\n\n" if example.context else ""
    choices = f"Choices: {', '.join(example.choices)}\n" if example.choices else ""
    return (
        f"{context}Question: {example.question}\n{choices}Proposed answer: {answer.strip()}\n"
        "Is the proposed answer:\n (A) True\n (B) False\nThe proposed answer is:"
    )


def score_p_true(
    model: Model,
    pairs: Sequence[tuple[Example, str]],
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
    log: Callable[[str], None] = lambda line: None,
) -> npt.NDArray[np.float64]:
    """How likely the model holds each (example, answer) for true: P(A) / (P(A) + P(B)) as the next token.

    In the chat template where the model has one, else as plain text; no worked examples.  The accepted answers are
    not shown.  One pass per batch, padded on the right, with vocabulary logits at the last token only.

    Parameters
    ----------
    progress: called with (done, total) after each batch.
    tell: told when a batch does not fit the memory and is halved.

    Returns
    -------
    (n,) float64 between 0 and 1, in the order of `pairs`; never NaN.

    Raises
    ------
    DataError: a question and its answer do not fit the model's window; nothing is cut.
    ModelError: the letters are not one token each, a logit is not finite, or one text alone does not fit the memory.
    """
    frame: PromptFormat = "chat" if model.has_chat_template else "none"
    asked = [_before_the_letter(model, example, answer, frame) for example, answer in pairs]
    check_lengths(model, [(e.id, p) for (e, _), (p, _, _) in zip(pairs, asked, strict=True)], 1)
    values = np.empty(len(asked))
    done = 0

    def read(rows: list[int]) -> npt.NDArray[np.float64]:
        texts = [asked[i][0].token_ids for i in rows]
        logits = logits_at(model, texts, range(len(texts)), [len(text) - 1 for text in texts])
        letters = torch.tensor([asked[i][1:] for i in rows]).to(logits.device)
        a, b = logits.gather(1, letters).double().unbind(1)
        if not bool((a - b).isfinite().all()):
            raise non_finite_error(model)
        return np.asarray(torch.sigmoid(a - b).cpu())  # the softmax over the two letters

    for batch in batches([len(p.token_ids) for p, _, _ in asked], batch_size):
        for rows, found in run_with_halving(batch, read, log):
            if found is None:
                raise out_of_memory_error(model, pairs[rows[0]][0].id, len(asked[rows[0]][0].token_ids))
            values[rows] = found
            done += len(rows)
            progress(done, len(asked))
    return values


def _before_the_letter(model: Model, example: Example, answer: str, frame: PromptFormat) -> tuple[Prompt, int, int]:
    """The tokens before the letter, and the ids of "A" and "B" there.

    Both whole texts are tokenised and compared, because which token a letter is depends on what stands before it:
    most vocabularies have "A" after " (", some have " (A" in one, and then the choice is made one token earlier.
    """
    question = Example(example.id, p_true_question(example, answer), ("",))
    text = make_prompt(model, _TRUTH, question, frame).text + _OPENING
    # As in `make_prompt`: a chat template writes its own beginning-of-text token.
    encoded = [
        model.tokenizer(text + letter, add_special_tokens=frame != "chat", return_offsets_mapping=True, verbose=False)
        for letter in "AB"
    ]
    true, false = (list(e["input_ids"]) for e in encoded)
    if len(true) != len(false) or true[:-1] != false[:-1] or true[-1] == false[-1]:
        raise ModelError(
            f"the tokenizer of {model.label} does not tell A from B by one token after {_OPENING!r}",
            "p(True) cannot be read from this model",
        )
    offsets = tuple((a, b) for a, b in encoded[0]["offset_mapping"][:-1])
    return Prompt(text, tuple(true[:-1]), offsets), true[-1], false[-1]
