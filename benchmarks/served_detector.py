"""Measure a served detector: equality of its scores on every path, its behaviour under load, and its cost.

``python benchmarks/served_detector.py RUN DETECTOR [--engine local|vllm] [--only equality|load|streams|overhead]
[--requests 2000] [--name served_detector]``: RUN is a run directory, DETECTOR the output of `probemap export`.  Writes
``benchmarks/results/NAME.md``; a section that is measured alone replaces the section of that title.  Scores are always
compared with those on transformers.

Equality: the run's answers are scored on every path, and each score is compared with `Scorer.score` on the token ids of
the run.  Newly generated answers are compared with `Scorer.score` on the ids that were generated.  A text that the
tokenizer gives different ids, or that is generated differently in a different batch, is a different answer: it is
counted and excluded.

Load: 64 threads send a mixture of requests to a server process.  Every score that is returned is compared with direct
scoring of the text that was returned; a mix-up of requests and answers would show as a large difference.

Overhead: the same prompts are answered alternately with and without the detector, in one process.  Both must generate
the same tokens.  Where the detector needs an additional forward pass over the last tokens of a batch, the pass counts
as overhead.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from report import RESULTS, machine, row, spread, table_head, write, yes_no
from served_load import LONG_PROMPT, measure_load, measure_streams
from served_run import (
    TOLERANCES,
    AnsweredExample,
    describe_values,
    difference,
    generate_and_score,
    load,
    run_messages,
    user_message,
)
from server_process import start_server

from probemap.detectors.detector import Detector
from probemap.detectors.loading import load_scorer
from probemap.detectors.scorer import Scorer
from probemap.detectors.scores import Score
from probemap.models.answering import answer_of
from probemap.models.engine import GenerationBatch, GenerationRequest
from probemap.models.prompts import chat_prompt
from probemap.records import Answer, Example, TextAnswer

N_COMPARED, N_CONCURRENT, N_REPEATS = 64, 32, 9


def p_correct_of(scores: Iterable[Score]) -> list[float | None]:
    return [score.p_correct for score in scores]


# Equality


@dataclass(frozen=True)
class HttpScores:
    """Scores of the run's examples over HTTP."""

    scorer: Scorer
    url: str

    def score(self, pair: AnsweredExample) -> float | None:
        """Score the run's answer."""
        example, answer = pair
        question = {"question": example.question, "context": example.context, "choices": list(example.choices)}
        response = self._post("/v1/score", {**question, "answer": answer.text, "stopped": answer.stopped})
        return None if response["p_correct"] is None else float(response["p_correct"])

    def complete(self, pair: AnsweredExample) -> tuple[str, float | None]:
        """Generate a new answer; return its text and its score."""
        limit = self.scorer.provenance.task.max_new_tokens
        body = {"messages": run_messages(self.scorer, pair[0]), "max_tokens": limit, "temperature": 0}
        (choice,) = self._post("/v1/chat/completions", body)["choices"]
        return choice["message"]["content"], choice["probemap"]["p_correct"]

    def _post(self, path: str, body: Any) -> Any:
        return httpx2.post(f"{self.url}{path}", json=body, timeout=600).raise_for_status().json()


def equality_row(
    tolerance: float, path: str, values: Iterable[float | None], expected: list[float | None], compared: Sequence[bool]
) -> str:
    differences = [difference(*pair) for *pair, include in zip(expected, values, compared, strict=True) if include]
    if not differences:
        return row(path, 0, len(compared), "–", "–")
    within = yes_no(max(differences) <= tolerance)
    return row(path, len(differences), len(compared) - len(differences), f"{max(differences):.1e}", within)


def scores_after_copy(scorer: Scorer, examples: list[Example], answers: list[Answer]) -> list[Score]:
    """Save the detector, copy it, load the copy, and score with it."""
    with tempfile.TemporaryDirectory() as folder:
        scorer.detector.save(Path(folder) / "saved")
        copy = Detector.load(shutil.copytree(Path(folder) / "saved", Path(folder) / "copy"))
    return Scorer(copy, scorer.model, batch_size=scorer.batch_size).score(examples, answers)


def measure_equality(answered: list[AnsweredExample], scorer: Scorer, url: str, tolerance: float) -> list[str]:
    answered = answered[:N_COMPARED]
    examples, answers = [e for e, _ in answered], [a for _, a in answered]
    expected = p_correct_of(scorer.score(examples, answers))
    retokenised = scorer.retokenise([(e, TextAnswer(e.id, a.text, a.stopped)) for e, a in answered])
    same_tokens = [b.token_ids == a.token_ids for b, a in zip(retokenised, answers, strict=True)]
    http = HttpScores(scorer, url)
    sequential = [http.score(pair) for pair in answered]
    with ThreadPoolExecutor(N_CONCURRENT) as pool:
        concurrent = list(pool.map(http.score, answered))
        completions = list(pool.map(http.complete, answered))
    generated = scorer.generate(examples)
    expected_generated = p_correct_of(scorer.score(examples, [result.answer for result in generated]))
    n_same = sum(result.answer.token_ids == a.token_ids for result, a in zip(generated, answers, strict=True))
    all_rows = [True] * len(answered)
    same_text = [text == result.answer.text for (text, _), result in zip(completions, generated, strict=True)]
    retokenised_scores = p_correct_of(scorer.score(examples, retokenised))
    generated_scores = p_correct_of(result.score for result in generated)
    compare = partial(equality_row, tolerance)
    return [
        f"{len(answered)} answers of the run; the largest absolute difference of p_correct from `Scorer.score` on the "
        f"same token ids, tolerance {tolerance:g}.  {n_same} of the {len(answered)} newly generated answers equal "
        f"those of the run, token for token.  {describe_values(expected)}",
        "",
        *table_head(
            "path to the score", "compared", "excluded: different tokens", "largest difference", "within tolerance"
        ),
        compare("question and text, as in `probemap score`", retokenised_scores, expected, same_tokens),
        compare("during generation, as in `probemap ask`", generated_scores, expected_generated, all_rows),
        compare("`/v1/score`, sequential", sequential, expected, same_tokens),
        compare(f"`/v1/score`, {N_CONCURRENT} concurrent", concurrent, expected, same_tokens),
        compare(
            f"`/v1/chat/completions`, {N_CONCURRENT} concurrent",
            [p for _, p in completions],
            expected_generated,
            same_text,
        ),
        compare(
            "saved, copied, loaded",
            p_correct_of(scores_after_copy(scorer, examples, answers)),
            expected,
            all_rows,
        ),
    ]


# Overhead


def timed_generation(
    scorer: Scorer, examples: list[Example], requests: list[GenerationRequest], with_detector: bool
) -> tuple[list[Answer], float]:
    started = time.perf_counter()
    if with_detector:
        answers = [result.answer for result in generate_and_score(scorer, examples, requests)]
    else:
        generations = scorer.engine.generate([GenerationBatch(requests)], stop_ids=scorer.stop_ids)
        ordered = sorted(generations, key=lambda generation: generation.row)
        answers = [answer_of(scorer.engine.model, *pair) for pair in zip(requests, ordered, strict=True)]
    return answers, time.perf_counter() - started


def overhead_row(name: str, scorer: Scorer, examples: list[Example], requests: list[GenerationRequest]) -> str:
    ratios: list[float] = []
    speeds: dict[bool, list[float]] = {True: [], False: []}
    timed_generation(scorer, examples, requests, True)  # warm-up
    for repeat in range(N_REPEATS):
        order = (True, False) if repeat % 2 else (False, True)
        results = {
            with_detector: timed_generation(scorer, examples, requests, with_detector) for with_detector in order
        }
        ids = [[a.produced_ids for a in answers] for answers, _ in results.values()]
        if ids[0] != ids[1]:
            raise SystemExit("generation with the detector gives different tokens than generation without it")
        n_tokens = sum(map(len, ids[0]))
        ratios.append(100 * (results[True][1] / results[False][1] - 1))
        for with_detector, (_, seconds) in results.items():
            speeds[with_detector].append(n_tokens / seconds)
    rates = (f"{np.median(speeds[with_detector]):.1f}" for with_detector in (False, True))
    return row(name, len(examples), n_tokens, max(map(len, ids[0])), *rates, spread(ratios, "+.1f"))


def measure_overhead(answered: list[AnsweredExample], scorer: Scorer) -> list[str]:
    lines = [
        f"Seconds with the detector, divided by those without, minus one: median (minimum to maximum) of {N_REPEATS} "
        "pairs in alternating order.  Passes are those of the longest answer, plus one where the detector reads last "
        "tokens.  Target: 3 %.",
        "",
        *table_head("prompts", "batch", "tokens", "passes", "tokens/s without", "tokens/s with", "overhead in %"),
    ]
    is_chat = scorer.provenance.prompt_format == "chat"
    for name, limit in (("of the run", scorer.provenance.task.max_new_tokens), ("for long answers", 128)):
        for size in (16, 1):
            examples = [e for e, _ in answered[:size]]
            if is_chat and name != "of the run":
                messages = [user_message(LONG_PROMPT.format(e.question)) for e in examples]
                prompts = [chat_prompt(scorer.engine.model, [message]) for message in messages]
            else:
                prompts = [scorer.prompt(e) for e in examples]
            requests = [GenerationRequest(e.id, prompt, limit) for e, prompt in zip(examples, prompts, strict=True)]
            lines.append(overhead_row(name, scorer, examples, requests))
    return lines


TITLES = {"equality": "Equal scores on every path", "load": "Load", "streams": "Streams", "overhead": "Overhead"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("detector")
    parser.add_argument("--engine", choices=TOLERANCES, default="local")
    parser.add_argument("--only", choices=TITLES)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--name", default="served_detector")
    options = parser.parse_args()
    answered, scorer = load(options.run, options.detector)
    tolerance = TOLERANCES[options.engine]
    selected = [options.only] if options.only else list(TITLES)
    sections: dict[str, list[str]] = {}
    if "overhead" in selected:  # before the server starts, so that nothing else runs
        measured = scorer
        if options.engine == "vllm":
            measured = load_scorer(options.detector, engine="vllm")
        sections["overhead"] = measure_overhead(answered, measured)
        measured.engine.close()
    if {"equality", "load", "streams"} & set(selected):
        with start_server(Path(options.detector), "--engine", options.engine) as server:
            if "equality" in selected:
                sections["equality"] = measure_equality(answered, scorer, server.url, tolerance)
            if "load" in selected:
                sections["load"] = measure_load(answered, scorer, server, options.requests, tolerance)
            if "streams" in selected:
                sections["streams"] = measure_streams(answered, scorer, server, tolerance)
    previous = read_sections(RESULTS / f"{options.name}.md")
    lines = ["# A served detector", "", f"{scorer.provenance.model}, engine {options.engine}.  {machine()}", ""]
    for section, title in TITLES.items():
        if body := sections.get(section) or previous.get(title):
            lines += [f"## {title}", "", *body, ""]
    write(options.name, lines[:-1])


def read_sections(path: Path) -> dict[str, list[str]]:
    """Return the lines of each section of an existing result file, by title."""
    if not path.is_file():
        return {}
    sections = [section.partition("\n") for section in path.read_text(encoding="utf-8").split("\n## ")[1:]]
    return {title: body.strip().split("\n") for title, _, body in sections}


if __name__ == "__main__":
    main()
