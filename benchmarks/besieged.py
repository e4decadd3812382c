"""What the server does to those who mean it no good, and to the others meanwhile.

``python benchmarks/besieged.py RUN DETECTOR [MINUTES] [--crowd 10000] [--name besieged]``: RUN is a run folder,
DETECTOR what `probemap export` made of it.  Writes ``benchmarks/results/NAME.md``.

Against a real ``probemap serve`` process, one after the other: bodies of 5 MB, with their length told and without; what
is no JSON; clients that send headers or bodies byte by byte, while an ordinary client asks; thousands of connections at
once; and then MINUTES (default 10) of all of it in a steady mixture, while the server's memory is read.
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
from report import head, machine, row, write
from served import MALFORMED, Served, request, served
from serving import Asked, messages, opened

from probemap.detectors.scorer import Scorer

LARGE = 5_000_000
LARGE_EACH = 20
SLOW_EACH, SLOW_SECONDS, BODY_SECONDS = 200, 45.0, 30.0
"""A body has 30 seconds (`guard.Limits`), so that those who dawdle longer are seen to be cut off."""
WORKERS = 16
PATIENCE = 120.0
"""Seconds after which a client of the crowd gives up."""
MEANWHILE, SOAKED, CROWDED, GROWTH = 2.0, 5.0, 60.0, 1.1
"""Budgets: p99 in seconds of an ordinary request beside slow clients, in the soak, and in the crowd if it is taken;
and the last minute's memory by the first one's."""


@dataclass(frozen=True)
class TextAnswer:
    status: str
    """Or what happened instead of one."""
    seconds: float


async def ask(server: Served, sent: bytes, patience: float = PATIENCE) -> TextAnswer:
    """One connection, one request, the whole reply."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(patience):
            status = await _asked(server, sent)
    except TimeoutError:
        status = "no reply in time"
    except ConnectionError as error:
        status = type(error).__name__
    except OSError as error:
        status = f"OSError: {error.strerror}"
    return TextAnswer(status, time.perf_counter() - started)


async def _asked(server: Served, sent: bytes) -> str:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(sent.replace(b"host: a\r\n", b"host: a\r\nconnection: close\r\n", 1))
        await writer.drain()
        reply = await reader.read()
        return reply.split(b" ", 2)[1].decode() if reply else "closed without a reply"
    finally:
        writer.close()


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99."""
    p50, p99 = np.percentile(seconds or [float("nan")], (50, 99))
    return float(p50), float(p99)


def counted(replies: Sequence[TextAnswer]) -> str:
    counts = Counter(reply.status for reply in replies)
    return ", ".join(f"{status}: {n}" for status, n in sorted(counts.items()))


def met(yes: bool) -> str:
    return "yes" if yes else "**no**"


def ordinary(pairs: list[Asked], draw: random.Random) -> bytes:
    example, answer = draw.choice(pairs)
    asked = {"question": example.question, "context": example.context, "choices": list(example.choices)}
    return request("/v1/score", {**asked, "answer": answer.text, "stopped": answer.stopped})


# Large, and wrong.


async def large(server: Served) -> str:
    """By a client as they are: what it is told, not what could be read off the wire."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(LARGE // 50_000):
            yield b" " * 50_000

    async def log(client: httpx2.AsyncClient, content: Any) -> TextAnswer:
        started = time.perf_counter()
        try:
            status = str((await client.post("/v1/score", content=content)).status_code)
        except httpx2.HTTPError as error:
            status = type(error).__name__
        return TextAnswer(status, time.perf_counter() - started)

    before = server.megabytes
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        told = await asyncio.gather(*(log(client, b" " * LARGE) for _ in range(LARGE_EACH)))
        untold = await asyncio.gather(*(log(client, parts()) for _ in range(LARGE_EACH)))
    return row(
        f"{2 * LARGE_EACH} bodies of {LARGE // 10**6} MB",
        f"length told: {counted(told)}; not told: {counted(untold)}; memory {server.megabytes - before:+.0f} MB",
        "413",
        met({reply.status for reply in (*told, *untold)} == {"413"}),
    )


async def wrong(server: Served) -> str:
    replies = [await ask(server, request(path, content)) for path, content in MALFORMED for _ in range(5)]
    refused = all(reply.status in ("400", "422") for reply in replies)
    return row("no JSON, NaN, Infinity, wrong types", counted(replies), "4xx", met(refused))


# Slow.


async def trickle(server: Served, start: bytes, seconds: float) -> tuple[float, str]:
    """A byte a second; (when the server ended it, what it said), or (the end, nothing)."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(start)
    hearing = asyncio.create_task(reader.read(100))
    try:
        while time.perf_counter() - started < seconds:
            done, _ = await asyncio.wait({hearing}, timeout=1)
            if done:
                said = hearing.exception() or hearing.result()
                word = said.split(b" ", 2)[1].decode() if isinstance(said, bytes) and said else "closed"
                return time.perf_counter() - started, word
            writer.write(b"x")
        return seconds, "still open"
    finally:
        hearing.cancel()
        writer.close()


async def patient(server: Served, pairs: list[Asked], until: asyncio.Event) -> list[TextAnswer]:
    """An ordinary client, ten times a second."""
    draw, replies = random.Random(1), []
    while not until.is_set():
        replies.append(await ask(server, ordinary(pairs, draw)))
        await asyncio.sleep(0.1)
    return replies


async def slow(server: Served, pairs: list[Asked], seconds: float) -> list[str]:
    alone = asyncio.Event()
    asyncio.get_running_loop().call_later(min(10.0, seconds), alone.set)
    before = quantiles([reply.seconds for reply in await patient(server, pairs, alone)])
    starts = {
        "headers": b"POST /v1/score HTTP/1.1\r\nhost: a\r\nx-slow: ",
        "a body": b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n",
    }
    over = asyncio.Event()
    other = asyncio.create_task(patient(server, pairs, over))
    waiting = [[trickle(server, start, seconds) for _ in range(SLOW_EACH)] for start in starts.values()]
    ended = await asyncio.gather(*(asyncio.gather(*some) for some in waiting))
    over.set()
    replies = await other
    during = quantiles([reply.seconds for reply in replies])
    lines = []
    for what, some in zip(starts, ended, strict=True):
        words = Counter(word for _, word in some)
        times = [t for t, word in some if word != "still open"]
        when = f" after {min(times):.0f} to {max(times):.0f} s" if times else f" after {seconds:.0f} s"
        # uvicorn gives headers all the time in the world; docs/serving.md says what to put in front.
        wanted = ("408", met(set(words) == {"408"} or seconds < BODY_SECONDS)) if what == "a body" else ("–", "–")
        told = ", ".join(f"{word}: {n}" for word, n in sorted(words.items()))
        lines.append(row(f"{SLOW_EACH} clients that send {what} byte by byte", f"{told}{when}", *wanted))
    lines.append(
        row(
            "an ordinary request meanwhile",
            f"p50 {during[0]:.3f} s, p99 {during[1]:.3f} s (before: {before[0]:.3f} s, {before[1]:.3f} s); "
            f"{counted(replies)}",
            f"200, p99 ≤ {MEANWHILE:g} s",
            met(during[1] <= MEANWHILE and {reply.status for reply in replies} == {"200"}),
        )
    )
    return lines


# Many.


async def crowd(server: Served, pairs: list[Asked], size: int) -> list[str]:
    draw, before = random.Random(2), server.megabytes
    started = time.perf_counter()
    replies = await asyncio.gather(*(ask(server, ordinary(pairs, draw)) for _ in range(size)))
    took, after = time.perf_counter() - started, server.megabytes
    taken = quantiles([reply.seconds for reply in replies if reply.status == "200"])
    refused = quantiles([reply.seconds for reply in replies if reply.status == "429"])
    known = {"200", "429", "503"}
    return [
        row(
            f"{size} connections at once",
            f"{counted(replies)}; all over after {took:.0f} s; memory {before:.0f} to {after:.0f} MB",
            "200, 429, 503",
            met({reply.status for reply in replies} <= known),
        ),
        row(
            "of these, who was answered (200)",
            f"p50 {taken[0]:.1f} s, p99 {taken[1]:.1f} s; refused (429): {refused[0]:.1f} s, {refused[1]:.1f} s",
            f"p99 ≤ {CROWDED:g} s",
            met(taken[1] <= CROWDED),
        ),
    ]


# For long.


async def soak(server: Served, pairs: list[Asked], scorer: Scorer, minutes: float) -> list[str]:
    over = time.monotonic() + 60 * minutes
    replies: dict[str, list[TextAnswer]] = {}
    memory: list[tuple[float, float]] = []

    def drawn(draw: random.Random) -> tuple[str, bytes]:
        kind = draw.choices(("score", "chat", "stream", "wrong", "large", "cut"), (55, 10, 10, 10, 5, 10))[0]
        if kind == "score":
            return kind, ordinary(pairs, draw)
        if kind == "wrong":
            return kind, request(*draw.choice(MALFORMED))
        if kind == "large":
            return kind, request("/v1/score", b" " * LARGE, chunked=draw.random() < 0.5)
        asked = {"messages": messages(scorer, draw.choice(pairs)[0]), "max_tokens": 6, "stream": kind != "chat"}
        return kind, request("/v1/chat/completions", asked)

    async def work(number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() < over:
            kind, sent = drawn(draw)
            # Who is cut off hangs up before the reply, or in the middle of it.
            reply = await ask(server, sent, draw.uniform(0, 1) if kind == "cut" else PATIENCE)
            replies.setdefault(kind, []).append(reply)
            await asyncio.sleep(0.02)

    async def watch() -> None:
        started = time.monotonic()
        while time.monotonic() < over:
            memory.append((time.monotonic() - started, server.megabytes))
            await asyncio.sleep(min(10.0, 60 * minutes / 12))

    await asyncio.gather(watch(), *(work(number) for number in range(WORKERS)))
    first = float(np.median([mb for t, mb in memory if t <= min(60, 30 * minutes)]))
    last = float(np.median([mb for t, mb in memory if t >= 60 * minutes - min(60, 30 * minutes)]))
    wanted = {"score": {"200"}, "chat": {"200"}, "stream": {"200"}, "wrong": {"400", "422"}, "large": {"413"}}
    lines = []
    for kind, some in sorted(replies.items()):
        p50, p99 = quantiles([reply.seconds for reply in some])
        good = kind == "cut" or ({reply.status for reply in some} <= wanted[kind] and p99 <= SOAKED)
        budget = "–" if kind == "cut" else f"{' or '.join(sorted(wanted[kind]))}, p99 ≤ {SOAKED:g} s"
        lines.append(row(f"soak: {kind}", f"{counted(some)}; p50 {p50:.3f} s, p99 {p99:.3f} s", budget, met(good)))
    most = max(mb for _, mb in memory)
    return [
        *lines,
        row(
            f"memory over {minutes:g} minutes",
            f"median {first:.0f} MB in the first minute, {last:.0f} MB in the last, {most:.0f} MB at most "
            f"({len(memory)} readings)",
            f"last ≤ {GROWTH:g} × first",
            met(last <= GROWTH * first),
        ),
    ]


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("run")
    given.add_argument("detector")
    given.add_argument("minutes", type=float, nargs="?", default=10.0)
    given.add_argument("--crowd", type=int, default=10_000)
    given.add_argument("--slow-seconds", type=float, default=SLOW_SECONDS)
    given.add_argument("--name", default="besieged")
    options = given.parse_args()
    # Each connection is a file; the server inherits the limit.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    size = options.crowd if hard == resource.RLIM_INFINITY else min(options.crowd, hard - 200)
    pairs, scorer = opened(options.run, options.detector)
    with served(Path(options.detector)) as server:
        asyncio.run(warm(server, pairs))
        lines = [asyncio.run(large(server)), asyncio.run(wrong(server))]
        lines += asyncio.run(slow(server, pairs, options.slow_seconds))
        lines += asyncio.run(crowd(server, pairs, size))
        lines += asyncio.run(soak(server, pairs, scorer, options.minutes))
        health = httpx2.get(f"{server.url}/healthz", timeout=60).json()["status"] if server.alive else "gone"
        lines.append(row("the server at the end", health, "ok", met(health == "ok")))
    write(
        options.name,
        [
            "# A server that is besieged",
            "",
            f"`probemap serve` with {scorer.provenance.model}.  {machine()}",
            "",
            *head("what is done to it", "what happens", "expected", "met"),
            *lines,
        ],
    )


async def warm(server: Served, pairs: list[Asked]) -> None:
    draw = random.Random(0)
    await asyncio.gather(*(ask(server, ordinary(pairs, draw)) for _ in range(64)))


if __name__ == "__main__":
    main()
