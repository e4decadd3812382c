"""The model answers: batched generation that keeps ids, text, character offsets and log-probabilities.

Token ids are never made twice: what is kept is what the model saw and produced.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from probemap.batching import batches, in_halves
from probemap.model import Model
from probemap.prompt import Frame, Prompt, check_lengths, make_prompt
from probemap.reasoning import reasoning_tokens
from probemap.records import Answer, Example, ModelError, Task


def generate_answers(
    model: Model,
    prompts: Sequence[tuple[str, Prompt]],
    *,
    frame: Frame,
    max_new_tokens: int,
    batch_size: int = 32,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    skip_batches: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Answer]]:
    """Answer (id, prompt) pairs, one batch of similar lengths at a time.

    An answer ends with the model's end-of-turn or end-of-text token; in the ``qa`` frame also with a line break.

    Parameters
    ----------
    max_tokens: of a batch, as for `batching.batches`, each row counted with its `max_new_tokens`.
    temperature: 0 is greedy; above 0 each token is drawn from the whole distribution at that temperature.
    seed: of the draws; batch `b` draws with ``seed + b``, so that a resumed run draws the same.
    skip_batches: leave out this many batches of the plan, which an earlier run finished.
    tell: told when a batch does not fit the memory and is halved; what was batched with what then differs.

    Raises
    ------
    ModelError: one question alone does not fit the memory.
    """
    ends = model.end_ids()
    breaks = model.newline_ids() if frame == "qa" else frozenset[int]()
    plan = answer_batches(prompts, max_new_tokens, batch_size, max_tokens)
    for number, rows in enumerate(plan[skip_batches:], start=skip_batches):

        def ask(some: list[int], number: int = number) -> tuple[list[list[int]], list[list[float]]]:
            return _generate(
                model,
                [prompts[i][1].token_ids for i in some],
                stop_ids=sorted(ends | breaks),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed + number,
            )

        batch: list[Answer] = []
        for some, made in in_halves(rows, ask, tell):
            if made is None:
                raise out_of_memory(model, prompts[some[0]][0], len(prompts[some[0]][1].token_ids) + max_new_tokens)
            for i, ids, logs in zip(some, *made, strict=True):
                batch.append(_answer(model, *prompts[i], ids, logs, ends, breaks))
        yield batch


def answer_batches(
    prompts: Sequence[tuple[str, Prompt]], max_new_tokens: int, batch_size: int, max_tokens: int | None
) -> list[list[int]]:
    """The plan of `generate_answers`: which prompts are asked together, in order."""
    return batches([len(p.token_ids) + max_new_tokens for _, p in prompts], batch_size, max_tokens)


def out_of_memory(model: Model, id_: str, tokens: int) -> ModelError:
    return ModelError(
        f"{id_!r} alone, {tokens} tokens, does not fit the memory of {model.device} beside {model.label}",
        "take --dtype bfloat16, --device cpu, a smaller model, or leave this question out",
    )


class _ChosenLogprobs(LogitsProcessor):  # type: ignore[misc]
    """Notes the log-probability of each chosen token, holding one step's logits at a time.

    A processor sees step t's logits before the token is chosen and the choice one step later, as the last id.
    """

    def __init__(self) -> None:
        self.pending: torch.Tensor | None = None
        self.chosen: list[torch.Tensor] = []

    def note(self, ids: torch.Tensor) -> None:
        if self.pending is not None:
            self.chosen.append(self.pending.gather(1, ids[:, -1:]).squeeze(1))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.note(input_ids)
        self.pending = scores.float().log_softmax(-1)
        return scores


def _generate(
    model: Model,
    prompts: list[tuple[int, ...]],
    *,
    stop_ids: list[int],
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> tuple[list[list[int]], list[list[float]]]:
    """Produced ids and their log-probabilities, each row up to and with its first stop id."""
    width = max(map(len, prompts))
    pad = model.tokenizer.pad_token_id
    pad = stop_ids[0] if pad is None else pad
    # Padding may be the end token itself, so the mask comes from the lengths, never from the ids.
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    noted = _ChosenLogprobs()
    draw = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        eos_token_id=stop_ids,
        pad_token_id=pad,
        **draw,
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        sequences = model.network.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([noted]),
        )
    noted.note(sequences)
    logs = torch.stack(noted.chosen, 1).tolist()
    stops = set(stop_ids)
    produced = []
    for row in sequences[:, width:].tolist():
        stop = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
        produced.append(row[:stop])
    return produced, [row[: len(kept)] for row, kept in zip(logs, produced, strict=True)]


def _answer(
    model: Model,
    id_: str,
    prompt: Prompt,
    produced: list[int],
    logprobs: list[float],
    ends: frozenset[int],
    breaks: frozenset[int],
) -> Answer:
    spoken = produced[:-1] if produced and produced[-1] in ends else produced
    text, offsets = decode_with_offsets(model.tokenizer, spoken)
    offsets += [(len(text), len(text))] * (len(produced) - len(spoken))
    return Answer(
        id_,
        prompt.text,
        text,
        (*prompt.token_ids, *produced),
        len(prompt.token_ids),
        (*prompt.offsets, *offsets),
        tuple(logprobs),
        stopped=bool(produced) and produced[-1] in ends | breaks,
        n_reasoning=reasoning_tokens(prompt.text, text, offsets),
    )


def decode_with_offsets(tokenizer: object, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of `ids`, and for each id the characters (start, stop) that it holds a byte of.

    Works for any tokenizer, byte-level or with byte fallback: each prefix is decoded and compared with the
    whole.  A character completes at the first prefix that shows it; a prefix that differs from the text after
    its complete characters (a replacement mark) holds the beginning of the next one.
    """
    decode = tokenizer.decode  # type: ignore[attr-defined]
    text: str = decode(ids, clean_up_tokenization_spaces=False)
    offsets: list[tuple[int, int]] = []
    complete = 0
    for count in range(1, len(ids) + 1):
        prefix: str = decode(ids[:count], clean_up_tokenization_spaces=False)
        start = complete
        while complete < min(len(prefix), len(text)) and prefix[complete] == text[complete]:
            complete += 1
        torn = len(prefix) > complete
        offsets.append((start, min(complete + torn, len(text))))
    return text, offsets


_SHOWN = (
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare around 1600.", "William Shakespeare"),
    ("When did it open?", "I am sorry, but I do not know when it opened.", "NO ANSWER"),
    ("Which planet is the largest?", "The largest planet of the solar system is Jupiter.", "Jupiter"),
    ("In which year did it end?", "It began in 1914 and came to an end in 1918.", "1918"),
)
_EXTRACTION = Task(
    "exact answers",
    (),
    "open",
    prompt="Question: {question}\nLong answer: {context}\nShort answer:",
    shots=tuple((f"Question: {q}\nLong answer: {said}\nShort answer:", exact) for q, said, exact in _SHOWN),
    max_new_tokens=24,
)


def ask_exact_answers(
    model: Model, pairs: Sequence[tuple[str, str]], *, batch_size: int = 16
) -> dict[tuple[str, str], str | None]:
    """Ask a model to copy the exact answer out of each (question, text); None where it says there is none.

    It sees question and text, never the accepted answers.  Worked examples in the ``qa`` frame, chat model or not:
    small chat models would rather talk.  The copy is not trusted: `locate.locator_from_extracts` accepts it only where
    it stands in the text.
    """
    examples = [Example(str(i), q, ("",), context=" ".join(text.split())) for i, (q, text) in enumerate(pairs)]
    prompts = [(e.id, make_prompt(model, _EXTRACTION, e, "qa")) for e in examples]
    check_lengths(model, prompts, _EXTRACTION.max_new_tokens)
    extracts: dict[tuple[str, str], str | None] = {}
    for batch in generate_answers(
        model, prompts, frame="qa", max_new_tokens=_EXTRACTION.max_new_tokens, batch_size=batch_size
    ):
        for answer in batch:
            said = answer.text.strip()
            extracts[pairs[int(answer.id)]] = None if not said or "NO ANSWER" in said.upper() else said
    return extracts
