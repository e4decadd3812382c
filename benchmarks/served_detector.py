"""Measure a served detector: equality of its scores on every path, its behaviour under load, and its cost.

``python benchmarks/served_detector.py RUN DETECTOR [--only equality|load|overhead] [--requests 2000] [--name
served_detector]``: RUN is a run directory, DETECTOR the output of `probemap export`.  Writes
``benchmarks/results/NAME.md``; a section that is measured alone replaces the section of that title.

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
import json
import random
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from report import RESULTS, head, machine, row, spread, write, yes_no
from server_process import MALFORMED, ServerProcess, raw_request, start_server

from probemap.detectors.detector import Detector
from probemap.detectors.loading import load_scorer
from probemap.detectors.scorer import Scorer
from probemap.detectors.scores import Score
from probemap.models.generate import GenerationRequest, generate_batch
from probemap.models.prompts import ChatMessage, PromptFormat, chat_messages, chat_prompt
from probemap.records import Answer, Example, TextAnswer
from probemap.runs.run import Run

TOLERANCE = 1e-5
N_COMPARED, N_CONCURRENT, N_CLIENTS, N_REPEATS = 64, 32, 64, 9
LONG_PROMPT = "Tell me in ten long sentences about the history of {}."

AnsweredExample = tuple[Example, Answer]


def load(run_path: str, detector_path: str, batch_size: int = 32) -> tuple[list[AnsweredExample], Scorer]:
    """Return the run's examples with their answers, and the detector with its model."""
    run = Run.open(run_path)
    answered = list(zip(run.task.examples, run.answers, strict=True))
    return answered, load_scorer(detector_path, batch_size=batch_size)


def run_messages(scorer: Scorer, example: Example) -> list[ChatMessage]:
    """Return the conversation for which the model gets the prompt of the run."""
    provenance = scorer.provenance
    if provenance.prompt_format == "chat":
        return list(chat_messages(provenance.task, example))
    return [user_message(example.question)]


def user_message(text: str) -> ChatMessage:
    return {"role": "user", "content": text}


def difference(first: float | None, second: float | None) -> float:
    """Return the distance of two probabilities; infinity if only one of them is missing."""
    if first is None or second is None:
        return 0.0 if first is second else float("inf")
    return abs(first - second)


def p_correct_of(scores: Iterable[Score]) -> list[float | None]:
    return [score.p_correct for score in scores]


def describe_values(values: Iterable[float | None]) -> str:
    """Describe the range of the values: if all were equal, their agreement would mean nothing."""
    p_correct = np.array([p for p in values if p is not None])
    if not p_correct.size:
        return "No answer has a p_correct."
    return (
        f"p_correct ranges from {p_correct.min():.3f} to {p_correct.max():.3f}, with "
        f"{len(np.unique(p_correct.round(4)))} different values in four digits."
    )


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
    path: str, values: Iterable[float | None], expected: list[float | None], compared: Sequence[bool]
) -> str:
    differences = [difference(*pair) for *pair, include in zip(expected, values, compared, strict=True) if include]
    if not differences:
        return row(path, 0, len(compared), "–", "–")
    within = yes_no(max(differences) <= TOLERANCE)
    return row(path, len(differences), len(compared) - len(differences), f"{max(differences):.1e}", within)


def scores_after_copy(scorer: Scorer, examples: list[Example], answers: list[Answer]) -> list[Score]:
    """Save the detector, copy it, load the copy, and score with it."""
    with tempfile.TemporaryDirectory() as folder:
        scorer.detector.save(Path(folder) / "saved")
        copy = Detector.load(shutil.copytree(Path(folder) / "saved", Path(folder) / "copy"))
    return Scorer(copy, scorer.model, batch_size=scorer.batch_size).score(examples, answers)


def measure_equality(answered: list[AnsweredExample], scorer: Scorer, url: str) -> list[str]:
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
    return [
        f"{len(answered)} answers of the run; the largest absolute difference of p_correct from `Scorer.score` on the "
        f"same token ids, tolerance {TOLERANCE:g}.  {n_same} of the {len(answered)} newly generated answers equal "
        f"those of the run, token for token.  {describe_values(expected)}",
        "",
        *head("path to the score", "compared", "excluded: different tokens", "largest difference", "within tolerance"),
        equality_row("question and text, as in `probemap score`", retokenised_scores, expected, same_tokens),
        equality_row("during generation, as in `probemap ask`", generated_scores, expected_generated, all_rows),
        equality_row("`/v1/score`, sequential", sequential, expected, same_tokens),
        equality_row(f"`/v1/score`, {N_CONCURRENT} concurrent", concurrent, expected, same_tokens),
        equality_row(
            f"`/v1/chat/completions`, {N_CONCURRENT} concurrent",
            [p for _, p in completions],
            expected_generated,
            same_text,
        ),
        equality_row(
            "saved, copied, loaded", p_correct_of(scores_after_copy(scorer, examples, answers)), expected, all_rows
        ),
    ]


# Load


@dataclass
class LoadLog:
    """Responses that the threads received."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    scored: list[tuple[Example, str, bool, float | None]] = field(default_factory=list)
    """Example, text, stopped and p_correct of each response of `/v1/score`."""
    completed: list[tuple[int, int, str, float | None]] = field(default_factory=list)
    """Index of the example, token limit, text and p_correct of each chat completion."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, request: str, status: object, seconds: float | None = None) -> None:
        with self.lock:
            self.statuses[request, str(status)] += 1
            if seconds is not None:
                self.seconds[request].append(seconds)


@dataclass(frozen=True)
class LoadClient:
    """Send requests and log the responses; each public method sends one request."""

    answered: list[AnsweredExample]
    scorer: Scorer
    server: ServerProcess
    log: LoadLog
    http: httpx2.Client

    def score(self, rng: random.Random) -> None:
        example, answer = rng.choice(self.answered)
        text = " ".join([answer.text] * rng.choice((1, 1, 1, 2, 4)))  # some answers are long
        question = {"question": example.question, "context": example.context, "choices": list(example.choices)}
        response = self._post_until_accepted(
            "score", "/v1/score", {**question, "answer": text, "stopped": answer.stopped}
        )
        if response is not None:
            with self.log.lock:
                self.log.scored.append((example, text, answer.stopped, response.json()["p_correct"]))

    def chat(self, rng: random.Random) -> None:
        index, limit, body = self._completion_request(rng)
        response = self._post_until_accepted("chat", "/v1/chat/completions", body)
        if response is not None:
            (choice,) = response.json()["choices"]
            with self.log.lock:
                self.log.completed.append((index, limit, choice["message"]["content"], choice["probemap"]["p_correct"]))

    def stream(self, rng: random.Random) -> None:
        index, limit, body = self._completion_request(rng)
        response = self._post_until_accepted("stream", "/v1/chat/completions", {**body, "stream": True})
        if response is not None:
            lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
            choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
            text = "".join(choice["delta"].get("content", "") for choice in choices)
            with self.log.lock:
                self.log.completed.append((index, limit, text, choices[-1]["probemap"]["p_correct"]))

    def malformed(self, rng: random.Random) -> None:
        path, content = rng.choice(MALFORMED)
        started = time.perf_counter()
        response = self.http.post(path, content=content, headers={"content-type": "application/json"})
        self.log.count("malformed", response.status_code, time.perf_counter() - started)

    def disconnect(self, rng: random.Random) -> None:
        """Close the connection in the middle of the request, before the response, or in the middle of a stream."""
        body = {**self._completion_request(rng)[2], "stream": True}
        moment = rng.choice(("during the request", "before the response", "during the stream"))
        content = raw_request("/v1/chat/completions", body)
        with socket.create_connection((self.server.host, self.server.port), timeout=60) as connection:
            connection.sendall(content[:-20] if moment == "during the request" else content)
            if moment == "during the stream":
                connection.recv(100)
        self.log.count(f"disconnect: {moment}", "-")

    def _completion_request(self, rng: random.Random) -> tuple[int, int, dict[str, Any]]:
        # There are few different requests, so that each can be repeated once without the server for comparison.
        index, limit = rng.randrange(min(24, len(self.answered))), rng.choice((2, 5, 12))
        messages = run_messages(self.scorer, self.answered[index][0])
        return index, limit, {"messages": messages, "max_tokens": limit, "temperature": 0}

    def _post_until_accepted(self, request: str, path: str, body: Any) -> httpx2.Response | None:
        """Send a request again after each 429; return None after any other error."""
        while True:
            started = time.perf_counter()
            try:
                response = self.http.post(path, json=body)
            except httpx2.HTTPError as error:
                self.log.count(request, type(error).__name__)
                return None
            ok = response.status_code == 200
            self.log.count(request, response.status_code, time.perf_counter() - started if ok else None)
            if response.status_code != 429:
                return response if ok else None
            time.sleep(float(response.headers.get("retry-after", 1)))


Send = Callable[[LoadClient, random.Random], None]
MIXTURE: tuple[tuple[Send, int], ...] = (
    (LoadClient.score, 50),
    (LoadClient.chat, 15),
    (LoadClient.stream, 15),
    (LoadClient.malformed, 10),
    (LoadClient.disconnect, 10),
)
"""Requests with their frequencies in percent."""


@dataclass(frozen=True)
class Comparison:
    """Differences between the scores of the server and direct scores."""

    path: str
    differences: list[float]

    @property
    def cells(self) -> tuple[str, int, str, int]:
        largest = max(self.differences, default=0.0)
        return self.path, len(self.differences), f"{largest:.1e}", sum(d > TOLERANCE for d in self.differences)


def compare_scores(scorer: Scorer, log: LoadLog) -> Comparison:
    """Compare the responses of `/v1/score` with direct scores of the same texts."""
    pairs = {(e.id, text): (e, TextAnswer(e.id, text, stopped)) for e, text, stopped, _ in log.scored}
    scores = scorer.score([e for e, _ in pairs.values()], scorer.retokenise(list(pairs.values())))
    direct = dict(zip(pairs, scores, strict=True))
    return Comparison("`/v1/score`", [difference(p, direct[e.id, text].p_correct) for e, text, _, p in log.scored])


def compare_completions(answered: list[AnsweredExample], scorer: Scorer, log: LoadLog) -> Comparison:
    """Compare the scores of chat completions with scores of the same tokens from a separate forward pass.

    Completions whose text differs from that of direct generation are excluded.
    """
    keys = sorted({(index, limit) for index, limit, _, _ in log.completed})
    direct: dict[tuple[int, int], tuple[str, float | None]] = {}
    for start in range(0, len(keys), scorer.batch_size):
        batch = keys[start : start + scorer.batch_size]
        examples = [answered[index][0] for index, _ in batch]
        requests = [
            GenerationRequest(example.id, scorer.prompt(example), limit)
            for example, (_, limit) in zip(examples, batch, strict=True)
        ]
        results = scorer.generate_batch(examples, requests)
        scores = scorer.score(examples, [result.answer for result in results])
        for key, result, score in zip(batch, results, scores, strict=True):
            direct[key] = result.answer.text, score.p_correct
    same_text = [
        (p, direct[index, limit][1]) for index, limit, text, p in log.completed if direct[index, limit][0] == text
    ]
    return Comparison("chat completions", [difference(*pair) for pair in same_text])


def send_all(
    answered: list[AnsweredExample], scorer: Scorer, server: ServerProcess, requests: Sequence[Send]
) -> LoadLog:
    log = LoadLog()
    with httpx2.Client(base_url=server.url, timeout=600, limits=httpx2.Limits(max_connections=N_CLIENTS)) as http:
        client = LoadClient(answered, scorer, server, log, http)
        with ThreadPoolExecutor(N_CLIENTS) as pool:
            list(pool.map(lambda pair: pair[1](client, random.Random(pair[0])), enumerate(requests)))
    return log


def measure_load(answered: list[AnsweredExample], scorer: Scorer, server: ServerProcess, n_requests: int) -> list[str]:
    rng = random.Random(0)
    methods, weights = zip(*MIXTURE, strict=True)
    requests = rng.choices(methods, weights, k=n_requests)
    send_all(answered, scorer, server, rng.choices(methods, weights, k=max(N_CLIENTS, n_requests // 10)))
    before, started = server.megabytes, time.perf_counter()
    log = send_all(answered, scorer, server, requests)
    seconds, after = time.perf_counter() - started, server.megabytes
    health = httpx2.get(f"{server.url}/healthz", timeout=60).json()["status"] if server.alive else "terminated"
    batch_size = mean_batch_size(httpx2.get(f"{server.url}/metrics", timeout=60).text)
    scores, completions = compare_scores(scorer, log), compare_completions(answered, scorer, log)
    n_5xx = sum(n for (_, status), n in log.statuses.items() if status.startswith("5"))
    n_excluded = len(log.completed) - len(completions.differences)
    return [
        f"{n_requests} requests from {N_CLIENTS} threads in {seconds:.0f} s, after a warm-up; rejected requests (429) "
        "are counted and sent again.  Latency of accepted requests in seconds.",
        "",
        *head("request", "status", "count"),
        *(row(request, status, n) for (request, status), n in sorted(log.statuses.items())),
        "",
        *head("request", "p50", "p99"),
        *(
            row(request, *(f"{q:.3f}" for q in np.percentile(values, (50, 99))))
            for request, values in sorted(log.seconds.items())
        ),
        "",
        *head("score of", "compared", "largest difference", f"above {TOLERANCE:g}"),
        *(row(*comparison.cells) for comparison in (scores, completions)),
        "",
        f"{n_excluded} of {len(log.completed)} completions differ in their text from the same prompt answered in a "
        "different batch without the server, and are excluded.",
        f"{describe_values(p for *_, p in (*log.scored, *log.completed))}",
        "",
        f"Statuses 5xx: {n_5xx}.  Mean batch size: {batch_size:.1f}.  Resident memory of the server: {before:.0f} MB "
        f"after the warm-up, {after:.0f} MB at the end.  State at the end: {health}.",
    ]


def mean_batch_size(metrics: str) -> float:
    total, count = (float(metrics.split(f"probemap_batch_size_{name} ")[1].split()[0]) for name in ("sum", "count"))
    return total / count


# Overhead


def prompt_format_of(scorer: Scorer) -> PromptFormat:
    prompt_format = scorer.provenance.prompt_format
    if prompt_format == "given":
        raise SystemExit("the prompts of the run were supplied with its answers; new answers need a prompt format")
    return prompt_format


def timed_generation(
    scorer: Scorer, examples: list[Example], requests: list[GenerationRequest], with_detector: bool
) -> tuple[list[Answer], float]:
    started = time.perf_counter()
    if with_detector:
        answers = [result.answer for result in scorer.generate_batch(examples, requests)]
    else:
        answers, _ = generate_batch(scorer.model, requests, prompt_format=prompt_format_of(scorer))
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
        *head("prompts", "batch", "tokens", "passes", "tokens/s without", "tokens/s with", "overhead in %"),
    ]
    is_chat = scorer.provenance.prompt_format == "chat"
    for name, limit in (("of the run", scorer.provenance.task.max_new_tokens), ("for long answers", 128)):
        for size in (16, 1):
            examples = [e for e, _ in answered[:size]]
            if is_chat and name != "of the run":
                prompts = [chat_prompt(scorer.model, [user_message(LONG_PROMPT.format(e.question))]) for e in examples]
            else:
                prompts = [scorer.prompt(e) for e in examples]
            requests = [GenerationRequest(e.id, prompt, limit) for e, prompt in zip(examples, prompts, strict=True)]
            lines.append(overhead_row(name, scorer, examples, requests))
    return lines


TITLES = {"equality": "Equal scores on every path", "load": "Load", "overhead": "Overhead"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("detector")
    parser.add_argument("--only", choices=TITLES)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--name", default="served_detector")
    options = parser.parse_args()
    answered, scorer = load(options.run, options.detector)
    selected = [options.only] if options.only else list(TITLES)
    sections: dict[str, list[str]] = {}
    if "overhead" in selected:  # before the server starts, so that nothing else runs
        sections["overhead"] = measure_overhead(answered, scorer)
    if {"equality", "load"} & set(selected):
        with start_server(Path(options.detector)) as server:
            if "equality" in selected:
                sections["equality"] = measure_equality(answered, scorer, server.url)
            if "load" in selected:
                sections["load"] = measure_load(answered, scorer, server, options.requests)
    previous = read_sections(RESULTS / f"{options.name}.md")
    lines = ["# A served detector", "", f"{scorer.provenance.model}.  {machine()}", ""]
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
