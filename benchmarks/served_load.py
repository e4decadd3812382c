"""The load section of ``served_detector.py``: many threads send a mixture of requests to a server process.

Every score that is returned is compared with direct scoring of the text that was returned; a mix-up of requests and
answers would show as a large difference.
"""

import json
import random
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import openai
from report import row, spread, table_head
from served_run import AnsweredExample, describe_values, difference, generate_and_score, run_messages, user_message
from server_process import MALFORMED, ServerProcess, raw_request

from probemap.detectors.scorer import Scorer
from probemap.models.engine import GenerationRequest
from probemap.models.prompts import chat_prompt
from probemap.records import Example, TextAnswer

N_CLIENTS, N_STREAMS = 64, 40
LONG_PROMPT = "Tell me in ten long sentences about the history of {}."


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

    def cells(self, tolerance: float) -> tuple[str, int, str, int]:
        largest = max(self.differences, default=0.0)
        return self.path, len(self.differences), f"{largest:.1e}", sum(d > tolerance for d in self.differences)


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
        results = generate_and_score(scorer, examples, requests)
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


def measure_load(
    answered: list[AnsweredExample], scorer: Scorer, server: ServerProcess, n_requests: int, tolerance: float
) -> list[str]:
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
        *table_head("request", "status", "count"),
        *(row(request, status, n) for (request, status), n in sorted(log.statuses.items())),
        "",
        *table_head("request", "p50", "p99"),
        *(
            row(request, *(f"{q:.3f}" for q in np.percentile(values, (50, 99))))
            for request, values in sorted(log.seconds.items())
        ),
        "",
        *table_head("score of", "compared", "largest difference", f"above {tolerance:g}"),
        *(row(*comparison.cells(tolerance)) for comparison in (scores, completions)),
        "",
        f"{n_excluded} of {len(log.completed)} completions differ in their text from the same prompt answered in a "
        "different batch without the server, and are excluded.",
        f"{describe_values(p for *_, p in (*log.scored, *log.completed))}",
        "",
        f"Statuses 5xx: {n_5xx}.  Mean batch size: {batch_size:.1f}.  Resident memory of the server: {before:.0f} MB "
        f"after the warm-up, {after:.0f} MB at the end.  State at the end: {health}.",
    ]


@dataclass(frozen=True)
class Stream:
    """A streamed completion of the official client."""

    limit: int
    text: str
    p_correct: float | None
    n_tokens: int
    """Number of tokens that the server reports."""
    first: float
    """Seconds until the first text."""
    total: float


def measure_streams(
    answered: list[AnsweredExample], scorer: Scorer, server: ServerProcess, tolerance: float
) -> list[str]:
    """Measure concurrent streams with limits from 16 to 512 tokens."""
    limits = np.linspace(16, 512, N_STREAMS).round().astype(int).tolist()
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=1200)
    examples = [answered[number % len(answered)][0] for number in range(N_STREAMS)]
    prompts = [user_message(LONG_PROMPT.format(example.question)) for example in examples]

    def stream(number: int) -> Stream:
        started, first, pieces, p_correct = time.perf_counter(), None, list[str](), None
        chunks = client.chat.completions.create(
            model=scorer.provenance.model,
            messages=[{"role": "user", "content": prompts[number]["content"]}],
            max_tokens=limits[number],
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        n_tokens = 0
        for chunk in chunks:
            if not chunk.choices:
                n_tokens = chunk.usage.completion_tokens if chunk.usage else 0
                continue
            (choice,) = chunk.choices
            if choice.delta.content:
                first = first or time.perf_counter() - started
                pieces.append(choice.delta.content)
            if choice.finish_reason:
                p_correct = (choice.model_extra or {})["probemap"]["p_correct"]
        total = time.perf_counter() - started
        return Stream(limits[number], "".join(pieces), p_correct, n_tokens, first or total, total)

    started = time.perf_counter()
    with ThreadPoolExecutor(N_STREAMS) as pool:
        streams = list(pool.map(stream, range(N_STREAMS)))
    seconds = time.perf_counter() - started
    questions = [Example(str(number), str(prompt["content"]), ("",)) for number, prompt in enumerate(prompts)]
    requests = [
        GenerationRequest(question.id, chat_prompt(scorer.engine.model, [prompt]), limit)
        for question, prompt, limit in zip(questions, prompts, limits, strict=True)
    ]
    results = generate_and_score(scorer, questions, requests)
    # The same text may consist of other tokens, so streams are compared with answers whose tokens are known.
    same = [
        difference(s.p_correct, result.score.p_correct)
        for s, result in zip(streams, results, strict=True)
        if s.text == result.answer.text
    ]
    comparison = Comparison("streams", same)
    n_tokens = sum(s.n_tokens for s in streams)
    shortest = [s for s in streams if s.limit <= 64]
    return [
        f"{N_STREAMS} concurrent streams of the official client, with limits from 16 to 512 tokens: {n_tokens} tokens "
        f"in {seconds:.0f} s, {n_tokens / seconds:.0f} tokens/s.  Seconds until the first text: "
        f"{spread([s.first for s in streams])}; until the end: {spread([s.total for s in streams])}, for limits of up "
        f"to 64 tokens {spread([s.total for s in shortest])}.",
        "",
        *table_head("score of", "compared", "largest difference", f"above {tolerance:g}"),
        row(*comparison.cells(tolerance)),
        "",
        f"{N_STREAMS - len(same)} of {N_STREAMS} streams differ in their text from the same prompt answered in one "
        "batch without the server, and are excluded.",
    ]


def mean_batch_size(metrics: str) -> float:
    total, count = (float(metrics.split(f"probemap_batch_size_{name} ")[1].split()[0]) for name in ("sum", "count"))
    return total / count
