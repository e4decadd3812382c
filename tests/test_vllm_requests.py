"""`RequestLoop`, with a stub of vLLM's engine that produces one token per request and step."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from probemap.models.engine import EngineEndedError
from probemap.models.vllm_requests import Request, RequestLoop
from probemap.records import ModelError


@pytest.fixture(autouse=True)
def stub_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two functions and the class of vLLM that the loop imports."""
    names = ["vllm", "vllm.inputs", "vllm.inputs.engine", "vllm.v1", "vllm.v1.engine", "vllm.v1.engine.exceptions"]
    modules = {name: ModuleType(name) for name in names}
    modules["vllm.inputs.engine"].tokens_input = list  # type: ignore[attr-defined]
    modules["vllm.v1.engine.exceptions"].EngineDeadError = EOFError  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


@dataclass
class StubEngine:
    """Produces the tokens 1, 2, 3 … for each request, which ends after ``params.max_tokens``."""

    running: dict[str, Any] = field(default_factory=dict)
    n_produced: dict[str, int] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    largest: int = 0
    finish_reason: str = "length"

    def add_request(self, id_: str, prompt: Sequence[int], params: Any) -> None:
        if not prompt:
            raise ValueError("the prompt is empty")
        self.running[id_] = params
        self.largest = max(self.largest, len(self.running))

    def abort_request(self, ids: Sequence[str]) -> None:
        self.aborted += ids
        for id_ in ids:
            self.running.pop(id_, None)

    def step(self) -> list[Any]:
        outputs = []
        for id_, params in list(self.running.items()):
            n = self.n_produced[id_] = self.n_produced.get(id_, 0) + 1
            is_finished = n == params.max_tokens
            if is_finished:
                del self.running[id_]
            completion = SimpleNamespace(
                token_ids=[n], logprobs=None, finish_reason=self.finish_reason if is_finished else None
            )
            outputs.append(
                SimpleNamespace(request_id=id_, outputs=[completion], prompt_logprobs=None, finished=is_finished)
            )
        return outputs


def loop_of(engine: StubEngine, max_running: int = 8) -> RequestLoop:
    llm = SimpleNamespace(llm_engine=engine, collective_rpc=lambda method, args: [])
    return RequestLoop(llm, max_running)


def request(row: int, n: int = 3, on_token: Callable[[int, int], bool] | None = None, **fields: Any) -> Request:
    params = SimpleNamespace(max_tokens=n, logprob_token_ids=None)
    return Request(row=row, prompt_ids=[5], params=params, max_new_tokens=n, on_token=on_token, **fields)


def test_requests_are_started_while_others_run_up_to_the_limit() -> None:
    engine = StubEngine()
    batches = [[request(4 * b + i, 1 + (4 * b + i) % 7) for i in range(4)] for b in range(20)]
    results = [r for r, _ in loop_of(engine).run(iter(batches), None)]
    assert sorted(r.row for r in results) == list(range(80))
    assert all(r.token_ids == list(range(1, 2 + r.row % 7)) for r in results)
    assert 8 <= engine.largest < 8 + 4
    assert engine.running == {} and engine.aborted == []


def test_rejected_request_does_not_affect_others() -> None:
    engine = StubEngine()
    rejected = request(1)
    rejected.prompt_ids = []
    known = request(2, error=ModelError("too long"))
    results = {r.row: r for r, _ in loop_of(engine).run(iter([[request(0), rejected, known, request(3)]]), None)}
    assert str(results[1].error) == "vLLM rejects a request: the prompt is empty"
    assert str(results[2].error) == "too long"
    assert results[0].error is results[3].error is None
    assert results[0].token_ids == results[3].token_ids == [1, 2, 3]


def test_unfinished_call_leaves_no_requests() -> None:
    engine = StubEngine()
    loop = loop_of(engine)
    results = loop.run(iter([[request(0, 1), request(1, 9)]]), None)
    assert next(results)[0].row == 0
    results.close()  # type: ignore[attr-defined]
    assert (loop._running, loop._complete, engine.aborted) == ({}, {}, ["probemap.1"])

    def failing() -> Iterator[list[Request]]:
        yield [request(0, 9)]
        raise KeyError("batch")

    with pytest.raises(KeyError, match="batch"):
        list(loop.run(failing(), None))
    assert (loop._running, loop._complete, engine.running) == ({}, {}, {})
    assert [r.row for r, _ in loop.run(iter([[request(7)]]), None)] == [7]


def test_error_of_a_nested_call_loses_no_tokens_of_the_outer_call() -> None:
    loop = loop_of(StubEngine())
    tokens: dict[int, list[int]] = {0: [], 1: []}

    def keep(row: int, token_id: int) -> bool:
        tokens[row].append(token_id)
        return True

    def fail(row: int, token_id: int) -> bool:
        raise ZeroDivisionError(f"token {token_id}")

    def batches() -> Iterator[list[Request]]:
        yield [request(0, 5, keep), request(1, 4, keep)]
        yield []
        with pytest.raises(ZeroDivisionError, match="token 1"):
            list(loop.run(iter([[request(0, 3, fail)]]), None))
        while tokens[0][-1] < 5:
            yield []

    results = [r for r, _ in loop.run(batches(), None)]
    assert [(r.row, r.token_ids) for r in sorted(results, key=lambda r: r.row)] == [
        (0, [1, 2, 3, 4, 5]),
        (1, [1, 2, 3, 4]),
    ]
    assert tokens == {0: [1, 2, 3, 4, 5], 1: [1, 2, 3, 4]}


def test_answers_that_vllm_aborts_are_not_complete() -> None:
    engine = StubEngine(finish_reason="abort")
    with pytest.raises(EngineEndedError, match="a process of vLLM ended unexpectedly"):
        list(loop_of(engine).run(iter([[request(0)]]), None))


@pytest.mark.parametrize("layers", [None, [0]])
def test_dead_engine_is_reported_by_every_call(layers: list[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise EOFError

    loop = loop_of(StubEngine())
    monkeypatch.setattr(StubEngine, "step", fail)
    loop._llm.collective_rpc = fail
    with pytest.raises(EngineEndedError, match="a process of vLLM ended unexpectedly"):
        list(loop.run(iter([[request(0)]]), layers))


def test_error_of_a_worker_is_reported_once() -> None:
    loop = loop_of(StubEngine())
    errors = ["KeyError: 'a'", "", ""]
    loop._llm.collective_rpc = lambda method, args: [{"error": errors.pop(0), "states": {}}]
    with pytest.raises(ModelError, match="vLLM's hidden states could not be recorded: KeyError: 'a'"):
        list(loop.run(iter([[request(0)]]), [0]))
    assert [r.row for r, _ in loop.run(iter([[request(1)]]), [0])] == [1]
