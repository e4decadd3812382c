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

from probemap.models.batching import batches, run_with_halving
from probemap.models.decoding import decode_with_offsets
from probemap.models.model import Model
from probemap.models.prompts import Prompt, PromptFormat
from probemap.models.reasoning import count_reasoning_tokens
from probemap.records import Answer, ModelError

_NEVER = 2**31 - 1
"""An id that no token has: none at all would be the model's own end."""

RecordedStates = list[npt.NDArray[np.float32]]
"""Of each answer of a batch what was seen, (passes, …)."""


class BatchRecorder(Protocol):
    """Looks on while a batch is generated."""

    def hooked(self) -> AbstractContextManager[None]: ...
    def states(self) -> npt.NDArray[np.float32]:
        """(rows, passes, …), the first pass that over the prompts."""

    def needs_last(self, ended: bool) -> bool:
        """Whether it must see an answer's last token, though the model has no more to say; `ended`: the answer ended
        with it, and was not cut off."""


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt of a batch, and how it is to be answered."""

    id: str
    prompt: Prompt
    max_new_tokens: int
    temperature: float = 0.0
    """0 is greedy; above 0 each token is drawn from the whole distribution at that temperature."""


OnToken = Callable[[int, int], bool]
"""Called with (row, token id) as soon as a token is there; False: nobody listens any more, and the row ends."""


@dataclass(frozen=True)
class Recorder:
    """Has a look at every batch."""

    watch: Callable[[int], BatchRecorder]
    """Of so many rows."""
    keep: Callable[[int, list[Answer], RecordedStates], None]
    """Called with the number of a batch, its answers, and what was seen of each."""


def generate_answers(
    model: Model,
    prompts: Sequence[tuple[str, Prompt]],
    *,
    frame: PromptFormat,
    max_new_tokens: int,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    watching: Recorder | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Answer]]:
    """Answer (id, prompt) pairs, one batch of similar lengths at a time.

    An answer ends with the model's end-of-turn or end-of-text token; in the ``qa`` frame also with a line break.

    Parameters
    ----------
    batch_tokens: of a batch, as for `batching.batches`, each row counted with its `max_new_tokens`.
    temperature: 0 is greedy; above 0 each token is drawn from the whole distribution at that temperature.
    seed: of the draws; batch `b` draws with ``seed + b``, so that a resumed run draws the same.
    numbers: of the batches of the plan to answer; None: all.
    watching: looks on; a batch takes one pass more, over its last tokens, where that needs them.
    tell: told when a batch does not fit the memory and is halved; what was batched with what then differs.

    Raises
    ------
    ModelError: one question alone does not fit the memory.
    """
    plan = plan_batches(prompts, max_new_tokens, batch_size, batch_tokens)
    wanted = [GenerationRequest(id_, prompt, max_new_tokens, temperature) for id_, prompt in prompts]
    for number in range(len(plan)) if numbers is None else numbers:

        def ask(some: list[int], number: int = number) -> tuple[list[Answer], RecordedStates]:
            watch = watching.watch(len(some)) if watching else None
            return generate_batch(model, [wanted[i] for i in some], frame=frame, seed=seed + number, watch=watch)

        batch: list[Answer] = []
        seen: RecordedStates = []
        for some, made in run_with_halving(plan[number], ask, log):
            if made is None:
                raise out_of_memory_error(
                    model, prompts[some[0]][0], len(prompts[some[0]][1].token_ids) + max_new_tokens
                )
            batch += made[0]
            seen += made[1]
        if watching:
            watching.keep(number, batch, seen)
        yield batch


def generate_batch(
    model: Model,
    wanted: Sequence[GenerationRequest],
    *,
    frame: PromptFormat,
    seed: int = 0,
    watch: BatchRecorder | None = None,
    hear: OnToken = lambda row, token: True,
) -> tuple[list[Answer], RecordedStates]:
    """Answer the prompts of one batch, each to its own length and at its own temperature.

    Returns
    -------
    The answers in their order, and what `watch` saw of each.
    """
    ends = model.end_ids()
    breaks = model.newline_ids() if frame == "qa" else frozenset[int]()
    ids, logs = _generate(model, wanted, ends | breaks, seed, watch, hear)
    answers = [_answer(model, *one, ends, breaks) for one in zip(wanted, ids, logs, strict=True)]
    return answers, list(watch.states()) if watch else []


def plan_batches(
    prompts: Sequence[tuple[str, Prompt]], max_new_tokens: int, batch_size: int, batch_tokens: int | None
) -> list[list[int]]:
    """The plan of `generate_answers`: which prompts are asked together, in order."""
    return batches([len(p.token_ids) + max_new_tokens for _, p in prompts], batch_size, batch_tokens)


def out_of_memory_error(model: Model, id_: str, tokens: int) -> ModelError:
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


class _Temperatures(LogitsProcessor):  # type: ignore[misc]
    """Gives each row its own temperature; a row at 0 has its likeliest token left alone."""

    def __init__(self, temperatures: torch.Tensor) -> None:
        self.temperatures = temperatures[:, None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        greedy = self.temperatures == 0
        others = torch.arange(scores.shape[1], device=scores.device) != scores.argmax(1, keepdim=True)
        return (scores / self.temperatures.masked_fill(greedy, 1)).masked_fill(greedy & others, -torch.inf)


class _Ends(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at a stop id, at its limit, or where nobody listens.

    The model has then read the last token of every row but those that ended just now: if the watch needs one of these,
    there is one pass more.
    """

    def __init__(
        self, stop_ids: frozenset[int], limits: list[int], width: int, watch: BatchRecorder | None, hear: OnToken
    ) -> None:
        self.stop_ids, self.limits, self.width, self.watch, self.hear = stop_ids, limits, width, watch, hear
        self.lengths: list[int | None] = [None] * len(limits)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kw: object) -> torch.Tensor:
        produced = input_ids.shape[1] - self.width
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self.lengths[row] is None:
                heard = self.hear(row, token)
                if not heard or token in self.stop_ids or produced == self.limits[row]:
                    self.lengths[row] = produced
        over = [length is not None for length in self.lengths]
        if all(over) and self.watch:
            unread = [
                token in self.stop_ids
                for token, length in zip(input_ids[:, -1].tolist(), self.lengths, strict=True)
                if length == produced
            ]
            over = [not any(map(self.watch.needs_last, unread))] * len(over)
        return torch.tensor(over, device=input_ids.device)


def _generate(
    model: Model,
    wanted: Sequence[GenerationRequest],
    stop_ids: frozenset[int],
    seed: int,
    watch: BatchRecorder | None,
    hear: OnToken,
) -> tuple[list[list[int]], list[list[float]]]:
    """Produced ids and their log-probabilities, each row up to and with its first stop id."""
    prompts = [list(one.prompt.token_ids) for one in wanted]
    width = max(map(len, prompts))
    pad = model.tokenizer.pad_token_id
    pad = min(stop_ids) if pad is None else pad
    # Padding may be the end token itself, so the mask comes from the lengths, never from the ids.
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    limits = [one.max_new_tokens for one in wanted]
    noted, ends = _ChosenLogprobs(), _Ends(stop_ids, limits, width, watch, hear)
    processors: list[LogitsProcessor] = [noted]
    drawn = any(one.temperature > 0 for one in wanted)
    if drawn:
        processors.append(_Temperatures(torch.tensor([one.temperature for one in wanted], device=model.device)))
    config = GenerationConfig(
        max_new_tokens=max(limits) + bool(watch),
        do_sample=drawn,
        eos_token_id=[_NEVER],
        pad_token_id=pad,
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if drawn else {}),
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices), watch.hooked() if watch else nullcontext():
        torch.manual_seed(seed)
        sequences = model.network.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([ends]),
        )
    noted.note(sequences)
    logs = torch.stack(noted.chosen, 1).tolist()
    rows = sequences[:, width:].tolist()
    lengths = ends.lengths
    return (
        [row[:length] for row, length in zip(rows, lengths, strict=True)],
        [row[:length] for row, length in zip(logs, lengths, strict=True)],
    )


def _answer(
    model: Model,
    wanted: GenerationRequest,
    produced: list[int],
    logprobs: list[float],
    ends: frozenset[int],
    breaks: frozenset[int],
) -> Answer:
    prompt = wanted.prompt
    spoken = produced[:-1] if produced and produced[-1] in ends else produced
    text, offsets = decode_with_offsets(model.tokenizer, spoken)
    offsets += [(len(text), len(text))] * (len(produced) - len(spoken))
    return Answer(
        id=wanted.id,
        prompt=prompt.text,
        text=text,
        token_ids=(*prompt.token_ids, *produced),
        n_prompt=len(prompt.token_ids),
        offsets=(*prompt.offsets, *offsets),
        logprobs=tuple(logprobs),
        stopped=bool(produced) and produced[-1] in ends | breaks,
        n_reasoning=count_reasoning_tokens(prompt.text, text, offsets),
    )
