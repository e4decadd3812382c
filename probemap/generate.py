"""The model answers: batched generation that keeps ids, text, character offsets and log-probabilities.

Token ids are never made twice: what is kept is what the model saw and produced.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from probemap.batching import batches, in_halves
from probemap.model import Model
from probemap.prompt import Frame, Prompt
from probemap.reasoning import reasoning_tokens
from probemap.records import Answer, ModelError

_NEVER = 2**31 - 1
"""An id that no token has: none at all would be the model's own end."""


class Watch(Protocol):
    """Looks on while a batch is generated."""

    def hooked(self) -> AbstractContextManager[None]: ...
    def states(self) -> npt.NDArray[np.float32]:
        """(rows, passes, …), the first pass that over the prompts."""


@dataclass(frozen=True)
class Watching:
    """Has a look at every batch."""

    watch: Callable[[int], Watch]
    """Of so many rows."""
    keep: Callable[[int, list[Answer], list[npt.NDArray[np.float32]]], None]
    """Called with the number of a batch, its answers, and what was seen of each."""


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
    numbers: Sequence[int] | None = None,
    watching: Watching | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Answer]]:
    """Answer (id, prompt) pairs, one batch of similar lengths at a time.

    An answer ends with the model's end-of-turn or end-of-text token; in the ``qa`` frame also with a line break.

    Parameters
    ----------
    max_tokens: of a batch, as for `batching.batches`, each row counted with its `max_new_tokens`.
    temperature: 0 is greedy; above 0 each token is drawn from the whole distribution at that temperature.
    seed: of the draws; batch `b` draws with ``seed + b``, so that a resumed run draws the same.
    numbers: of the batches of the plan to answer; None: all.
    watching: looks on; each batch then takes one pass more, over its last tokens.
    tell: told when a batch does not fit the memory and is halved; what was batched with what then differs.

    Raises
    ------
    ModelError: one question alone does not fit the memory.
    """
    ends = model.end_ids()
    breaks = model.newline_ids() if frame == "qa" else frozenset[int]()
    plan = answer_batches(prompts, max_new_tokens, batch_size, max_tokens)
    for number in range(len(plan)) if numbers is None else numbers:

        def ask(some: list[int], number: int = number) -> _Made:
            return _generate(
                model,
                [prompts[i][1].token_ids for i in some],
                stop_ids=sorted(ends | breaks),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed + number,
                watch=watching.watch(len(some)) if watching else None,
            )

        batch: list[Answer] = []
        seen: list[npt.NDArray[np.float32]] = []
        for some, made in in_halves(plan[number], ask, tell):
            if made is None:
                raise out_of_memory(model, prompts[some[0]][0], len(prompts[some[0]][1].token_ids) + max_new_tokens)
            for i, ids, logs in zip(some, made.ids, made.logprobs, strict=True):
                batch.append(_answer(model, *prompts[i], ids, logs, ends, breaks))
            seen += [] if made.seen is None else list(made.seen)
        if watching:
            watching.keep(number, batch, seen)
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


class _OnceMore(StoppingCriteria):  # type: ignore[misc]
    """Ends a row one pass after its stop id, so that the model has also read that."""

    def __init__(self, stop_ids: list[int], width: int) -> None:
        self.stop_ids, self.width = torch.tensor(stop_ids), width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kw: object) -> torch.Tensor:
        return torch.isin(input_ids[:, self.width : -1], self.stop_ids.to(input_ids.device)).any(1)


@dataclass(frozen=True)
class _Made:
    ids: list[list[int]]
    logprobs: list[list[float]]
    seen: npt.NDArray[np.float32] | None


def _generate(
    model: Model,
    prompts: list[tuple[int, ...]],
    *,
    stop_ids: list[int],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    watch: Watch | None = None,
) -> _Made:
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
        max_new_tokens=max_new_tokens + bool(watch),
        do_sample=temperature > 0,
        eos_token_id=[_NEVER] if watch else stop_ids,
        pad_token_id=pad,
        **draw,
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices), watch.hooked() if watch else nullcontext():
        torch.manual_seed(seed)
        sequences = model.network.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([noted]),
            stopping_criteria=StoppingCriteriaList([_OnceMore(stop_ids, width)]) if watch else None,
        )
    noted.note(sequences)
    logs = torch.stack(noted.chosen, 1).tolist()
    stops = set(stop_ids)
    produced = []
    for row in sequences[:, width : width + max_new_tokens].tolist():
        stop = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
        produced.append(row[:stop])
    chosen = [row[: len(kept)] for row, kept in zip(logs, produced, strict=True)]
    return _Made(produced, chosen, watch.states() if watch else None)


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
