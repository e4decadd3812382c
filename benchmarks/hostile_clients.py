"""Measure how the server reacts to hostile clients, and how it treats ordinary clients meanwhile.

``python benchmarks/hostile_clients.py RUN DETECTOR [MINUTES] [--crowd 10000] [--name hostile_clients]``: RUN is a run
directory, DETECTOR the output of `probemap export`.  Writes ``benchmarks/results/NAME.md``.

A ``probemap serve`` process receives, one after the other: bodies of 5 MB with and without a declared length; invalid
JSON; headers and bodies that are sent byte by byte, while an ordinary client sends requests; thousands of simultaneous
connections; and a steady mixture of these for MINUTES (default 10) while the memory of the server is recorded.
"""

import argparse
import asyncio
import random
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from report import machine, row, table_head, write, yes_no
from served_run import AnsweredExample, load, run_messages
from server_process import MALFORMED, ServerProcess, raw_request, start_server

from probemap.detectors.scorer import Scorer

LARGE_BODY = 5_000_000
N_LARGE = 20
N_SLOW, SLOW_SECONDS, BODY_SECONDS = 200, 45.0, 30.0
"""The server allows 30 seconds for a body (`probemap.server.middleware.Limits`).  Slow clients send for longer, so that
the benchmark sees them cut off."""
N_WORKERS = 16
CLIENT_TIMEOUT = 120.0
"""Seconds after which a client of the crowd gives up."""
MAX_P99_SLOW, MAX_P99_SOAK, MAX_P99_CROWD, MAX_GROWTH = 2.0, 5.0, 60.0, 1.1
"""Budgets: p99 in seconds of an ordinary request beside slow clients, in the soak test, and in the crowd if it is
accepted; and the ratio of the memory in the last minute to that in the first."""


@dataclass(frozen=True)
class Reply:
    """The outcome of one request."""

    status: str
    """Status of the response, or a description of the failure."""
    seconds: float


async def send(server: ServerProcess, content: bytes, timeout: float = CLIENT_TIMEOUT) -> Reply:
    """Send one request over a new connection and read the complete response."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(timeout):
            status = await _status(server, content)
    except TimeoutError:
        status = "no reply in time"
    except ConnectionError as error:
        status = type(error).__name__
    except OSError as error:
        status = f"OSError: {error.strerror}"
    return Reply(status, time.perf_counter() - started)


async def _status(server: ServerProcess, content: bytes) -> str:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(content.replace(b"host: a\r\n", b"host: a\r\nconnection: close\r\n", 1))
        await writer.drain()
        response = await reader.read()
        return response.split(b" ", 2)[1].decode() if response else "closed without a reply"
    finally:
        writer.close()


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """Return p50 and p99; NaN for an empty list."""
    p50, p99 = np.percentile(seconds or [float("nan")], (50, 99))
    return float(p50), float(p99)


def count_statuses(replies: Sequence[Reply]) -> str:
    counts = Counter(reply.status for reply in replies)
    return ", ".join(f"{status}: {n}" for status, n in sorted(counts.items()))


def ordinary_request(answered: list[AnsweredExample], rng: random.Random) -> bytes:
    """Return a valid request for the score of one of the run's answers."""
    example, answer = rng.choice(answered)
    question = {"question": example.question, "context": example.context, "choices": list(example.choices)}
    return raw_request("/v1/score", {**question, "answer": answer.text, "stopped": answer.stopped})


# Large and malformed bodies


async def measure_large(server: ServerProcess) -> str:
    """Send bodies above the limit with an ordinary HTTP client, to record what such a client sees of the error."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LARGE_BODY // 50_000):
            yield b" " * 50_000

    async def post(client: httpx2.AsyncClient, content: Any) -> Reply:
        started = time.perf_counter()
        try:
            status = str((await client.post("/v1/score", content=content)).status_code)
        except httpx2.HTTPError as error:
            status = type(error).__name__
        return Reply(status, time.perf_counter() - started)

    before = server.megabytes
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        declared = await asyncio.gather(*(post(client, b" " * LARGE_BODY) for _ in range(N_LARGE)))
        undeclared = await asyncio.gather(*(post(client, chunks()) for _ in range(N_LARGE)))
    return row(
        f"{2 * N_LARGE} bodies of {LARGE_BODY // 10**6} MB",
        f"length declared: {count_statuses(declared)}; not declared: {count_statuses(undeclared)}; "
        f"memory {server.megabytes - before:+.0f} MB",
        "413",
        yes_no({reply.status for reply in (*declared, *undeclared)} == {"413"}),
    )


async def measure_malformed(server: ServerProcess) -> str:
    replies = [await send(server, raw_request(path, content)) for path, content in MALFORMED for _ in range(5)]
    all_rejected = all(reply.status in ("400", "422") for reply in replies)
    return row("invalid JSON, NaN, Infinity, incorrect types", count_statuses(replies), "4xx", yes_no(all_rejected))


# Slow clients


async def send_slowly(server: ServerProcess, start: bytes, seconds: float) -> tuple[float, str]:
    """Send one byte per second; return the duration, and the status of the response or the state of the connection."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(start)
    response = asyncio.create_task(reader.read(100))
    try:
        while time.perf_counter() - started < seconds:
            done, _ = await asyncio.wait({response}, timeout=1)
            if done:
                content = response.exception() or response.result()
                status = content.split(b" ", 2)[1].decode() if isinstance(content, bytes) and content else "closed"
                return time.perf_counter() - started, status
            writer.write(b"x")
        return seconds, "still open"
    finally:
        response.cancel()
        writer.close()


async def send_ordinary_requests(
    server: ServerProcess, answered: list[AnsweredExample], stop: asyncio.Event
) -> list[Reply]:
    """Send a valid request ten times per second until `stop` is set."""
    rng, replies = random.Random(1), []
    while not stop.is_set():
        replies.append(await send(server, ordinary_request(answered, rng)))
        await asyncio.sleep(0.1)
    return replies


async def measure_slow(server: ServerProcess, answered: list[AnsweredExample], seconds: float) -> list[str]:
    baseline_over = asyncio.Event()
    asyncio.get_running_loop().call_later(min(10.0, seconds), baseline_over.set)
    before = quantiles([reply.seconds for reply in await send_ordinary_requests(server, answered, baseline_over)])
    starts = {
        "headers": b"POST /v1/score HTTP/1.1\r\nhost: a\r\nx-slow: ",
        "a body": b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n",
    }
    slow_over = asyncio.Event()
    ordinary = asyncio.create_task(send_ordinary_requests(server, answered, slow_over))
    clients = [[send_slowly(server, start, seconds) for _ in range(N_SLOW)] for start in starts.values()]
    outcomes = await asyncio.gather(*(asyncio.gather(*group) for group in clients))
    slow_over.set()
    replies = await ordinary
    during = quantiles([reply.seconds for reply in replies])
    lines = []
    for content, group in zip(starts, outcomes, strict=True):
        counts = Counter(status for _, status in group)
        times = [t for t, status in group if status != "still open"]
        when = f" after {min(times):.0f} to {max(times):.0f} s" if times else f" after {seconds:.0f} s"
        # uvicorn sets no time limit for headers; docs/serving.md recommends a proxy that does.
        is_body = content == "a body"
        expected = ("408", yes_no(set(counts) == {"408"} or seconds < BODY_SECONDS)) if is_body else ("–", "–")
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(counts.items()))
        lines.append(row(f"{N_SLOW} clients that send {content} byte by byte", f"{statuses}{when}", *expected))
    lines.append(
        row(
            "an ordinary request meanwhile",
            f"p50 {during[0]:.3f} s, p99 {during[1]:.3f} s (before: {before[0]:.3f} s, {before[1]:.3f} s); "
            f"{count_statuses(replies)}",
            f"200, p99 ≤ {MAX_P99_SLOW:g} s",
            yes_no(during[1] <= MAX_P99_SLOW and {reply.status for reply in replies} == {"200"}),
        )
    )
    return lines


# Many connections


async def measure_crowd(server: ServerProcess, answered: list[AnsweredExample], size: int) -> list[str]:
    rng, before = random.Random(2), server.megabytes
    started = time.perf_counter()
    replies = await asyncio.gather(*(send(server, ordinary_request(answered, rng)) for _ in range(size)))
    seconds, after = time.perf_counter() - started, server.megabytes
    accepted = quantiles([reply.seconds for reply in replies if reply.status == "200"])
    rejected = quantiles([reply.seconds for reply in replies if reply.status == "429"])
    return [
        row(
            f"{size} simultaneous connections",
            f"{count_statuses(replies)}; finished after {seconds:.0f} s; memory {before:.0f} to {after:.0f} MB",
            "200, 429, 503",
            yes_no({reply.status for reply in replies} <= {"200", "429", "503"}),
        ),
        row(
            "of these, accepted requests (200)",
            f"p50 {accepted[0]:.1f} s, p99 {accepted[1]:.1f} s; "
            f"rejected (429): {rejected[0]:.1f} s, {rejected[1]:.1f} s",
            f"p99 ≤ {MAX_P99_CROWD:g} s",
            yes_no(accepted[1] <= MAX_P99_CROWD),
        ),
    ]


# Soak test

EXPECTED_STATUSES = {
    "score": {"200"},
    "chat": {"200"},
    "stream": {"200"},
    "malformed": {"400", "422"},
    "large": {"413"},
}


def draw_request(answered: list[AnsweredExample], scorer: Scorer, rng: random.Random) -> tuple[str, bytes]:
    """Return the name of a request and its bytes."""
    names, weights = ("score", "chat", "stream", "malformed", "large", "disconnect"), (55, 10, 10, 10, 5, 10)
    (name,) = rng.choices(names, weights)
    if name == "score":
        return name, ordinary_request(answered, rng)
    if name == "malformed":
        return name, raw_request(*rng.choice(MALFORMED))
    if name == "large":
        return name, raw_request("/v1/score", b" " * LARGE_BODY, chunked=rng.random() < 0.5)
    messages = run_messages(scorer, rng.choice(answered)[0])
    return name, raw_request("/v1/chat/completions", {"messages": messages, "max_tokens": 6, "stream": name != "chat"})


async def measure_soak(
    server: ServerProcess, answered: list[AnsweredExample], scorer: Scorer, minutes: float
) -> list[str]:
    deadline = time.monotonic() + 60 * minutes
    replies: dict[str, list[Reply]] = {}
    memory: list[tuple[float, float]] = []

    async def work(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < deadline:
            name, content = draw_request(answered, scorer, rng)
            # A client that disconnects does so before the response or during it.
            timeout = rng.uniform(0, 1) if name == "disconnect" else CLIENT_TIMEOUT
            replies.setdefault(name, []).append(await send(server, content, timeout))
            await asyncio.sleep(0.02)

    async def record_memory() -> None:
        started = time.monotonic()
        while time.monotonic() < deadline:
            memory.append((time.monotonic() - started, server.megabytes))
            await asyncio.sleep(min(10.0, 60 * minutes / 12))

    await asyncio.gather(record_memory(), *(work(seed) for seed in range(N_WORKERS)))
    first = float(np.median([mb for t, mb in memory if t <= min(60, 30 * minutes)]))
    last = float(np.median([mb for t, mb in memory if t >= 60 * minutes - min(60, 30 * minutes)]))
    maximum = max(mb for _, mb in memory)
    lines = []
    for name, group in sorted(replies.items()):
        p50, p99 = quantiles([reply.seconds for reply in group])
        result = f"{count_statuses(group)}; p50 {p50:.3f} s, p99 {p99:.3f} s"
        if name == "disconnect":
            lines.append(row(f"soak: {name}", result, "–", "yes"))
            continue
        expected = EXPECTED_STATUSES[name]
        met = {reply.status for reply in group} <= expected and p99 <= MAX_P99_SOAK
        budget = f"{' or '.join(sorted(expected))}, p99 ≤ {MAX_P99_SOAK:g} s"
        lines.append(row(f"soak: {name}", result, budget, yes_no(met)))
    return [
        *lines,
        row(
            f"memory over {minutes:g} minutes",
            f"median {first:.0f} MB in the first minute, {last:.0f} MB in the last, maximum {maximum:.0f} MB "
            f"({len(memory)} readings)",
            f"last ≤ {MAX_GROWTH:g} × first",
            yes_no(last <= MAX_GROWTH * first),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("detector")
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--crowd", type=int, default=10_000)
    parser.add_argument("--slow-seconds", type=float, default=SLOW_SECONDS)
    parser.add_argument("--name", default="hostile_clients")
    options = parser.parse_args()
    # Every connection is an open file; the server process inherits the limit.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    size = options.crowd if hard == resource.RLIM_INFINITY else min(options.crowd, hard - 200)
    answered, scorer = load(options.run, options.detector)
    with start_server(Path(options.detector)) as server:
        asyncio.run(warm_up(server, answered))
        lines = [asyncio.run(measure_large(server)), asyncio.run(measure_malformed(server))]
        lines += asyncio.run(measure_slow(server, answered, options.slow_seconds))
        lines += asyncio.run(measure_crowd(server, answered, size))
        lines += asyncio.run(measure_soak(server, answered, scorer, options.minutes))
        health = httpx2.get(f"{server.url}/healthz", timeout=60).json()["status"] if server.alive else "terminated"
        lines.append(row("the server at the end", health, "ok", yes_no(health == "ok")))
    write(
        options.name,
        [
            "# The server and hostile clients",
            "",
            f"`probemap serve` with {scorer.provenance.model}.  {machine()}",
            "",
            *table_head("attack", "result", "expected", "met"),
            *lines,
        ],
    )


async def warm_up(server: ServerProcess, answered: list[AnsweredExample]) -> None:
    rng = random.Random(0)
    await asyncio.gather(*(send(server, ordinary_request(answered, rng)) for _ in range(64)))


if __name__ == "__main__":
    main()
