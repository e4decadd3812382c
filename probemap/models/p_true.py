"""p(True): the probability that a model assigns to its own answer being true (Kadavath et al. 2022, arXiv 2207.05221).

The model is shown its answer and asked whether it is (A) true or (B) false.  No reply is generated.  Instead, the
probability that the next token is A is compared with the probability that it is B.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from probemap.models.batching import batches
from probemap.models.engine import Engine, in_batches
from probemap.models.model import Model, out_of_memory_error
from probemap.models.prompts import Prompt, PromptFormat, TokenisedText, check_lengths, make_prompt, tokenise
from probemap.records import Example, ModelError, Task

# The question is inserted into the template as a field, so that braces in questions and answers need no escaping.
_TASK = Task("p(True)", (), "open", prompt="{question}")

_REPLY_PREFIX = " ("
"""Beginning of the reply, which is appended to the prompt so that the next token is the letter."""


def p_true_question(example: Example, answer: str) -> str:
    """Return the p(True) prompt of Kadavath et al. for an answer, with the question, its context and its choices."""
    context = f"{example.context}\n\n" if example.context else ""
    choices = f"Choices: {', '.join(example.choices)}\n" if example.choices else ""
    return (
        f"{context}Question: {example.question}\n{choices}Proposed answer: {answer.strip()}\n"
        "Is the proposed answer:\n (A) True\n (B) False\nThe proposed answer is:"
    )


def score_p_true(
    engine: Engine,
    pairs: Sequence[tuple[Example, str]],
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
    log: Callable[[str], None] = lambda text: None,
) -> npt.NDArray[np.float64]:
    """Return p(True) for each answer, computed as P(A) / (P(A) + P(B)) from the probabilities of the next token.

    The prompt is formatted with the chat template if the model has one.  It contains neither worked examples nor
    accepted answers.  Each batch takes one forward pass, which computes logits only at the last token of each prompt.

    Parameters
    ----------
    engine : Engine
    pairs : sequence of (Example, str)
        Each question with the text of its answer.
    batch_size : int, default 32
        Maximum number of answers per batch.
    progress : callable, optional
        Called after each batch with the number of answers scored so far and the total number of answers.
    log : callable, optional
        Called with a message when a batch does not fit in memory and is halved.

    Returns
    -------
    ndarray of shape (n,), float64
        Probabilities between 0 and 1, in the order of `pairs`.

    Raises
    ------
    DataError
        If a prompt exceeds the context window.  Texts are never truncated.
    ModelError
        If the tokenizer does not encode the letters A and B as single tokens, if a logit is infinite or NaN, or if a
        single text does not fit in memory.
    """
    model = engine.model
    prompt_format: PromptFormat = "chat" if model.has_chat_template else "none"
    encoded = [_encode(model, example, answer, prompt_format) for example, answer in pairs]
    statements = [statement for statement, _ in encoded]
    check_lengths(model, [(statement.id, statement.prompt) for statement in statements], 1)
    p_true = np.empty(len(pairs))
    plan = batches([len(statement.token_ids) for statement in statements], batch_size)
    readings = engine.read(statements, batches=plan, next_ids=[letters for _, letters in encoded], log=log)
    done = 0
    for batch in in_batches(readings, plan):
        for reading in batch:
            if not reading.fits:
                statement = statements[reading.row]
                raise out_of_memory_error(model, statement.id, len(statement.token_ids))
            true, false = reading.next_logprobs
            p_true[reading.row] = 1 / (1 + math.exp(false - true))  # the softmax over the two letters
        done += len(batch)
        progress(done, len(pairs))
    return p_true


def _encode(
    model: Model, example: Example, answer: str, prompt_format: PromptFormat
) -> tuple[TokenisedText, tuple[int, int]]:
    """Return the prompt up to the letter, and the ids of the tokens that contain "A" and "B".

    Two prompts, one ending in "A" and one ending in "B", are tokenised and compared, because the token of a letter
    depends on the text before it.  Most tokenizers encode "A" as a separate token after " (", but some encode " (A" as
    a single token.
    """
    question = Example(example.id, p_true_question(example, answer), ("",))
    text = make_prompt(model, _TASK, question, prompt_format).text + _REPLY_PREFIX
    # A chat template writes its own beginning-of-text token; see `make_prompt`.
    add_special_tokens = prompt_format != "chat"
    prompts = [tokenise(model, text + letter, add_special_tokens=add_special_tokens) for letter in "AB"]
    true_ids, false_ids = (prompt.token_ids for prompt in prompts)
    if len(true_ids) != len(false_ids) or true_ids[:-1] != false_ids[:-1] or true_ids[-1] == false_ids[-1]:
        raise ModelError(
            f"the tokenizer of {model.label} does not encode A and B after {_REPLY_PREFIX!r} as two single tokens",
            "p(True) cannot be computed with this model",
        )
    prompt = Prompt(text, true_ids[:-1], prompts[0].offsets[:-1])
    return TokenisedText(example.id, prompt, len(prompt.token_ids)), (true_ids[-1], false_ids[-1])
