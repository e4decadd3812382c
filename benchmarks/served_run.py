"""A run's answers and the detector that scores them, for the benchmarks of the server."""

from collections.abc import Iterable, Sequence

import numpy as np

from probemap.detectors.loading import load_scorer
from probemap.detectors.scorer import Scorer
from probemap.detectors.scores import GenerationResult
from probemap.models.engine import GenerationBatch, GenerationRequest
from probemap.models.prompts import chat_messages
from probemap.records import Answer, ChatMessage, Example
from probemap.runs.run import Run

TOLERANCES = {"local": 1e-5, "vllm": 1e-3}
"""Largest difference of two probabilities that counts as rounding, for each engine of the server.  The probabilities
are compared with those on transformers."""

AnsweredExample = tuple[Example, Answer]


def load(run_path: str, detector_path: str) -> tuple[list[AnsweredExample], Scorer]:
    """Return the run's examples with their answers, and the detector with its model on transformers."""
    run = Run.open(run_path)
    answered = list(zip(run.task.examples, run.answers, strict=True))
    return answered, load_scorer(detector_path)


def run_messages(scorer: Scorer, example: Example) -> list[ChatMessage]:
    """Return the conversation for which the model gets the prompt of the run."""
    provenance = scorer.provenance
    if provenance.prompt_format == "chat":
        return list(chat_messages(provenance.task, example))
    return [user_message(example.question)]


def generate_and_score(
    scorer: Scorer, examples: Sequence[Example], requests: Sequence[GenerationRequest]
) -> list[GenerationResult]:
    """Generate answers in one batch and score them, without a server."""
    generations = scorer.engine.generate(
        [GenerationBatch(requests)], stop_ids=scorer.stop_ids, recording=scorer.recording
    )
    return scorer.score_generations(examples, requests, sorted(generations, key=lambda generation: generation.row))


def user_message(text: str) -> ChatMessage:
    return {"role": "user", "content": text}


def difference(first: float | None, second: float | None) -> float:
    """Return the distance of two probabilities; infinity if only one of them is missing."""
    if first is None or second is None:
        return 0.0 if first is second else float("inf")
    return abs(first - second)


def describe_values(values: Iterable[float | None]) -> str:
    """Describe the range of the values: if all were equal, their agreement would mean nothing."""
    p_correct = np.array([p for p in values if p is not None])
    if not p_correct.size:
        return "No answer has a p_correct."
    return (
        f"p_correct ranges from {p_correct.min():.3f} to {p_correct.max():.3f}, with "
        f"{len(np.unique(p_correct.round(4)))} different values in four digits."
    )
