"""A detector that is served: is its score the same everywhere, under load too, and what does it cost?

``python benchmarks/serving.py RUN DETECTOR [--only same|load|overhead] [--requests 2000] [--name serving]``: RUN is a
run folder, DETECTOR what `probemap export` made of it.  Writes ``benchmarks/results/NAME.md``; a part that is run alone
replaces its own section there.

Same: the run's own answers take every way to a score, and each is compared with `Scorer.score` over the token ids that
the run holds; what the model says anew is compared with `Scorer.score` over the ids that it then produced.  A text that
the tokenizer gives other ids, or that is worded otherwise in other company, is another answer: counted, and left out.

Load: 64 threads put a mixture of requests to a real process.  Every score that comes back is compared with direct
scoring here of the very text that came back; a wrong pairing of requests and answers would show as a large difference.

Overhead: the same prompts answered with the probe and without, in turns, in one process.  Both must produce the same
tokens; where the probe needs one pass more, over the last tokens of a batch, that counts against it.
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
from probemap.runs.integrity import answers_of
from report import head, machine, row, spread, write
from served import MALFORMED, Served, request, served

from probemap.detectors.detector import Detector
from probemap.detectors.loading import load_scorer
from probemap.detectors.scorer import Score, Scorer
from probemap.models.generate import GenerationRequest, generate_batch
from probemap.models.prompts import ChatMessage, chat_messages, chat_prompt
from probemap.records import Answer, Example, TextAnswer
from probemap.runs.run import Run

LIMIT = 1e-5
COMPARED, TOGETHER, CLIENTS, PAIRS = 64, 32, 64, 9
LONG = "Tell me in ten long sentences about the history of {}."

Asked = tuple[Example, Answer]


def opened(run: str, detector: str, batch_size: int = 32) -> tuple[list[Asked], Scorer]:
    """The run's questions with its answers, and the detector with its model."""
    whole = Run.open(run)
    task = whole.task()
    scorer = load_scorer(detector, batch_size=batch_size)
    return list(zip(task.examples, answers_of(whole, task), strict=True)), scorer


def messages(scorer: Scorer, example: Example) -> list[ChatMessage]:
    """The question as a conversation that gives the model the prompt that the run gave it."""
    provenance = scorer.provenance
    return list(chat_messages(provenance.task, example)) if provenance.frame == "chat" else [_user(example.question)]


def _user(text: str) -> ChatMessage:
    return {"role": "user", "content": text}


def apart(one: float | None, other: float | None) -> float:
    """How far two probabilities are from each other; a missing one is only like a missing one."""
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    return abs(one - other)


def p_of(scores: Iterable[Score]) -> list[float | None]:
    return [score.p_correct for score in scores]


def apiece(values: Iterable[float | None]) -> str:
    """How different they are: where all are alike, one more agrees with any."""
    known = np.array([p for p in values if p is not None])
    if not known.size:
        return "None has a p_correct."
    return (
        f"p_correct runs from {known.min():.3f} to {known.max():.3f}, with {len(np.unique(known.round(4)))} different "
        "values in four digits."
    )


# The same everywhere.


def same(pairs: list[Asked], scorer: Scorer, url: str) -> list[str]:
    pairs = pairs[:COMPARED]
    examples, answers = [e for e, _ in pairs], [a for _, a in pairs]
    expected = p_of(scorer.score(examples, answers))
    texts = scorer.answers([(e, TextAnswer(e.id, a.text, a.stopped)) for e, a in pairs])
    kept = [made.token_ids == a.token_ids for made, a in zip(texts, answers, strict=True)]
    limit = scorer.provenance.task.max_new_tokens

    def post(path: str, body: Any) -> Any:
        return httpx2.post(f"{url}{path}", json=body, timeout=600).raise_for_status().json()

    def scored(pair: Asked) -> float | None:
        example, answer = pair
        asked = {"question": example.question, "context": example.context, "choices": list(example.choices)}
        made = post("/v1/score", {**asked, "answer": answer.text, "stopped": answer.stopped})
        return None if made["p_correct"] is None else float(made["p_correct"])

    def completed(pair: Asked) -> tuple[str, float | None]:
        asked = {"messages": messages(scorer, pair[0]), "max_tokens": limit, "temperature": 0}
        (choice,) = post("/v1/chat/completions", asked)["choices"]
        return choice["message"]["content"], choice["probemap"]["p_correct"]

    def line(way: str, values: Iterable[float | None], direct: list[float | None], compared: Sequence[bool]) -> str:
        gaps = [apart(*two) for *two, yes in zip(direct, values, compared, strict=True) if yes]
        if not gaps:
            return row(way, 0, len(compared), "–", "–")
        within = "yes" if max(gaps) <= LIMIT else "**no**"
        return row(way, len(gaps), len(compared) - len(gaps), f"{max(gaps):.1e}", within)

    alone = [scored(pair) for pair in pairs]
    with ThreadPoolExecutor(TOGETHER) as pool:
        together = list(pool.map(scored, pairs))
        chatted = list(pool.map(completed, pairs))
    said = scorer.generate(examples)
    anew = p_of(scorer.score(examples, [one.answer for one in said]))
    own = sum(one.answer.token_ids == a.token_ids for one, a in zip(said, answers, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        scorer.detector.save(Path(folder) / "saved")
        moved = Detector.load(shutil.copytree(Path(folder) / "saved", Path(folder) / "elsewhere"))
    again = Scorer(moved, scorer.model, batch_size=scorer.batch_size).score(examples, answers)
    every = [True] * len(pairs)
    worded = [text == one.answer.text for (text, _), one in zip(chatted, said, strict=True)]
    return [
        f"{len(pairs)} answers of the run; the largest absolute difference of p_correct from `Scorer.score` over the "
        f"same token ids, limit {LIMIT:g}.  {own} of the {len(pairs)} answers that the model gives anew are the run's, "
        f"token for token.  {apiece(expected)}",
        "",
        *head("way to the score", "compared", "left out: other tokens", "largest difference", "within the limit"),
        line("question and text, as `probemap score` reads them", p_of(scorer.score(examples, texts)), expected, kept),
        line("while the model speaks, as `probemap ask`", p_of(one.score for one in said), anew, every),
        line("`/v1/score`, one at a time", alone, expected, kept),
        line(f"`/v1/score`, {TOGETHER} at once", together, expected, kept),
        line(f"`/v1/chat/completions`, {TOGETHER} at once", [p for _, p in chatted], anew, worded),
        line("saved, copied, loaded", p_of(again), expected, every),
    ]


# Load.


@dataclass
class Seen:
    """What came back, from all threads."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    scored: list[tuple[Example, str, bool, float | None]] = field(default_factory=list)
    """Question, text, stopped, p_correct of `/v1/score`."""
    said: list[tuple[int, int, str, float | None]] = field(default_factory=list)
    """Question's number, limit, text, p_correct of chat completions."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: object, seconds: float | None = None) -> None:
        with self.lock:
            self.statuses[kind, str(status)] += 1
            if seconds is not None:
                self.seconds[kind].append(seconds)


@dataclass(frozen=True)
class Client:
    """Puts requests of one kind after the other, and notes what happens."""

    pairs: list[Asked]
    scorer: Scorer
    server: Served
    seen: Seen
    http: httpx2.Client

    def score(self, draw: random.Random) -> None:
        example, answer = draw.choice(self.pairs)
        text = " ".join([answer.text] * draw.choice((1, 1, 1, 2, 4)))  # some are long
        asked = {"question": example.question, "context": example.context, "choices": list(example.choices)}
        made = self._patiently("score", "/v1/score", {**asked, "answer": text, "stopped": answer.stopped})
        if made is not None:
            with self.seen.lock:
                self.seen.scored.append((example, text, answer.stopped, made.json()["p_correct"]))

    def chat(self, draw: random.Random) -> None:
        number, limit, asked = self._asked(draw)
        made = self._patiently("chat", "/v1/chat/completions", asked)
        if made is not None:
            (choice,) = made.json()["choices"]
            with self.seen.lock:
                self.seen.said.append((number, limit, choice["message"]["content"], choice["probemap"]["p_correct"]))

    def stream(self, draw: random.Random) -> None:
        number, limit, asked = self._asked(draw)
        made = self._patiently("stream", "/v1/chat/completions", {**asked, "stream": True})
        if made is not None:
            lines = [line.removeprefix("data: ") for line in made.text.splitlines() if line]
            pieces = [json.loads(line)["choices"][0] for line in lines[:-1]]
            text = "".join(piece["delta"].get("content", "") for piece in pieces)
            with self.seen.lock:
                self.seen.said.append((number, limit, text, pieces[-1]["probemap"]["p_correct"]))

    def malformed(self, draw: random.Random) -> None:
        path, content = draw.choice(MALFORMED)
        started = time.perf_counter()
        made = self.http.post(path, content=content, headers={"content-type": "application/json"})
        self.seen.note("malformed", made.status_code, time.perf_counter() - started)

    def cut(self, draw: random.Random) -> None:
        """Hangs up: in the middle of the request, before the reply, in the middle of a stream."""
        asked = {**self._asked(draw)[2], "stream": True}
        how = draw.choice(("half a request", "before the reply", "in the middle of a stream"))
        whole = request("/v1/chat/completions", asked)
        with socket.create_connection((self.server.host, self.server.port), timeout=60) as line:
            line.sendall(whole[:-20] if how == "half a request" else whole)
            if how == "in the middle of a stream":
                line.recv(100)
        self.seen.note(f"cut: {how}", "-")

    def _asked(self, draw: random.Random) -> tuple[int, int, dict[str, Any]]:
        # Few of each, so that every pair of them is said once here, to compare.
        number, limit = draw.randrange(min(24, len(self.pairs))), draw.choice((2, 5, 12))
        asked = {"messages": messages(self.scorer, self.pairs[number][0]), "max_tokens": limit, "temperature": 0}
        return number, limit, asked

    def _patiently(self, kind: str, path: str, body: Any) -> httpx2.Response | None:
        """Asked again after 429, as often as it takes."""
        while True:
            started = time.perf_counter()
            try:
                made = self.http.post(path, json=body)
            except httpx2.HTTPError as error:
                self.seen.note(kind, type(error).__name__)
                return None
            ok = made.status_code == 200
            self.seen.note(kind, made.status_code, time.perf_counter() - started if ok else None)
            if made.status_code != 429:
                return made if ok else None
            time.sleep(float(made.headers.get("retry-after", 1)))


KINDS: tuple[tuple[Callable[[Client, random.Random], None], int], ...] = (
    (Client.score, 50),
    (Client.chat, 15),
    (Client.stream, 15),
    (Client.malformed, 10),
    (Client.cut, 10),
)
"""With their shares."""


def wrong_scores(pairs: list[Asked], scorer: Scorer, seen: Seen) -> list[tuple[str, int, float, int]]:
    """(kind, compared, largest difference, above the limit): against direct scoring of what came back."""
    different = {(e.id, text): (e, TextAnswer(e.id, text, stopped)) for e, text, stopped, _ in seen.scored}
    made = scorer.score([e for e, _ in different.values()], scorer.answers(list(different.values())))
    here = dict(zip(different, made, strict=True))
    gaps = [apart(p, here[e.id, text].p_correct) for e, text, _, p in seen.scored]
    told = [("`/v1/score`", gaps)]

    wanted = sorted({(number, limit) for number, limit, _, _ in seen.said})
    spoken: dict[tuple[int, int], tuple[str, float | None]] = {}
    for start in range(0, len(wanted), scorer.batch_size):
        some = wanted[start : start + scorer.batch_size]
        examples = [pairs[number][0] for number, _ in some]
        said = scorer.speak(
            examples,
            [GenerationRequest(e.id, scorer.prompt(e), limit) for e, (_, limit) in zip(examples, some, strict=True)],
        )
        # The very tokens once more, in a second pass: not what was seen while they were said.
        again = scorer.score(examples, [one.answer for one in said])
        for key, one, score in zip(some, said, again, strict=True):
            spoken[key] = one.answer.text, score.p_correct
    same_text = [(p, spoken[n, limit]) for n, limit, text, p in seen.said if spoken[n, limit][0] == text]
    told.append(("chat completions", [apart(p, other) for p, (_, other) in same_text]))
    return [(kind, len(gaps), max(gaps, default=0.0), sum(gap > LIMIT for gap in gaps)) for kind, gaps in told]


def load(pairs: list[Asked], scorer: Scorer, server: Served, requests: int) -> list[str]:
    draw = random.Random(0)
    kinds, shares = zip(*KINDS, strict=True)
    seen = Seen()
    todo = draw.choices(kinds, shares, k=requests)

    def put(chosen: Sequence[Callable[[Client, random.Random], None]], into: Seen) -> None:
        with httpx2.Client(base_url=server.url, timeout=600, limits=httpx2.Limits(max_connections=CLIENTS)) as http:
            client = Client(pairs, scorer, server, into, http)
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda job: job[1](client, random.Random(job[0])), enumerate(chosen)))

    put(draw.choices(kinds, shares, k=max(CLIENTS, requests // 10)), Seen())
    before, started = server.megabytes, time.perf_counter()
    put(todo, seen)
    took, after = time.perf_counter() - started, server.megabytes
    health = httpx2.get(f"{server.url}/healthz", timeout=60).json()["status"] if server.alive else "gone"
    batches = _batch_size(httpx2.get(f"{server.url}/metrics", timeout=60).text)
    compared = wrong_scores(pairs, scorer, seen)
    fives = sum(n for (_, status), n in seen.statuses.items() if status.startswith("5"))
    return [
        f"{requests} requests from {CLIENTS} threads in {took:.0f} s, after a warm-up; refused ones (429) are counted "
        "and put again.  Latency of answered requests, in seconds.",
        "",
        *head("request", "status", "count"),
        *(row(kind, status, n) for (kind, status), n in sorted(seen.statuses.items())),
        "",
        *head("request", "p50", "p99"),
        *(row(kind, *(f"{q:.3f}" for q in np.percentile(s, (50, 99)))) for kind, s in sorted(seen.seconds.items())),
        "",
        *head("score of", "compared", "largest difference", f"above {LIMIT:g}"),
        *(row(kind, n, f"{worst:.1e}", above) for kind, n, worst, above in compared),
        "",
        f"{len(seen.said) - compared[1][1]} of {len(seen.said)} completions were worded otherwise than the same prompt "
        "answered here, in other company, and are not compared.",
        f"{apiece(p for *_, p in (*seen.scored, *seen.said))}",
        "",
        f"Statuses 5xx: {fives}.  Requests that the model took together, on average: {batches:.1f}.  Resident memory "
        f"of the server: {before:.0f} MB after the warm-up, {after:.0f} MB at the end.  At the end it says: {health}.",
    ]


def _batch_size(metrics: str) -> float:
    whole, count = (float(metrics.split(f"probemap_batch_size_{what} ")[1].split()[0]) for what in ("sum", "count"))
    return whole / count


# What the probe costs.


def spoken(
    scorer: Scorer, examples: list[Example], wanted: list[GenerationRequest], probe: bool
) -> tuple[list[Answer], float]:
    started = time.perf_counter()
    if probe:
        answers = [said.answer for said in scorer.speak(examples, wanted)]
    else:
        answers, _ = generate_batch(scorer.model, wanted, prompt_format=scorer.provenance.frame)
    return answers, time.perf_counter() - started


def overhead(pairs: list[Asked], scorer: Scorer) -> list[str]:
    asked = scorer.provenance.task
    lines = [
        f"Seconds with the probe, divided by those without, less one: median (lowest to highest) of {PAIRS} pairs, in "
        "changing order.  Passes are those of the longest answer; one more where the probe reads last tokens.  "
        "Target: 3 %.",
        "",
        *head("prompts", "batch", "tokens", "passes", "tokens/s without", "tokens/s with", "overhead in %"),
    ]
    chat = scorer.provenance.frame == "chat"
    for what, limit in (("the run's own", asked.max_new_tokens), ("for long answers", 128)):
        for size in (16, 1):
            examples = [e for e, _ in pairs[:size]]
            if chat and what != "the run's own":
                prompts = [chat_prompt(scorer.model, [_user(LONG.format(e.question))]) for e in examples]
            else:
                prompts = [scorer.prompt(e) for e in examples]
            wanted = [GenerationRequest(e.id, prompt, limit) for e, prompt in zip(examples, prompts, strict=True)]
            ratios, speeds = [], {True: [], False: []}
            spoken(scorer, examples, wanted, True)  # warms up
            for k in range(PAIRS):
                order = (True, False) if k % 2 else (False, True)
                made = {probe: spoken(scorer, examples, wanted, probe) for probe in order}
                ids = [[a.produced_ids for a in answers] for answers, _ in made.values()]
                if ids[0] != ids[1]:
                    raise SystemExit("with the probe and without it the model says different things")
                tokens = sum(map(len, ids[0]))
                ratios.append(100 * (made[True][1] / made[False][1] - 1))
                for probe, (_, seconds) in made.items():
                    speeds[probe].append(tokens / seconds)
            rates = (f"{np.median(speeds[probe]):.1f}" for probe in (False, True))
            lines.append(row(what, size, tokens, max(map(len, ids[0])), *rates, spread(ratios, "+.1f")))
    return lines


TITLES = {"same": "The same answer, the same score", "load": "Load", "overhead": "What the probe costs"}


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("run")
    given.add_argument("detector")
    given.add_argument("--only", choices=TITLES)
    given.add_argument("--requests", type=int, default=2000)
    given.add_argument("--name", default="serving")
    options = given.parse_args()
    pairs, scorer = opened(options.run, options.detector)
    parts = [options.only] if options.only else list(TITLES)
    made: dict[str, list[str]] = {}
    if "overhead" in parts:  # while nothing else runs
        made["overhead"] = overhead(pairs, scorer)
    if {"same", "load"} & set(parts):
        with served(Path(options.detector)) as server:
            if "same" in parts:
                made["same"] = same(pairs, scorer, server.url)
            if "load" in parts:
                made["load"] = load(pairs, scorer, server, options.requests)
    old = sections(Path(__file__).parent / "results" / f"{options.name}.md")
    lines = ["# A detector that is served", "", f"{scorer.provenance.model}.  {machine()}", ""]
    for part, title in TITLES.items():
        if body := made.get(part) or old.get(title):
            lines += [f"## {title}", "", *body, ""]
    write(options.name, lines[:-1])


def sections(path: Path) -> dict[str, list[str]]:
    """Title -> lines, of a file that was written before."""
    if not path.is_file():
        return {}
    found = [part.partition("\n") for part in path.read_text(encoding="utf-8").split("\n## ")[1:]]
    return {title: body.strip().split("\n") for title, _, body in found}


if __name__ == "__main__":
    main()
