"""The dialects of OpenAI-compatible servers: each one works, or is refused with a message that names its cause."""

import contextlib
import json
import time
from email.utils import formatdate
from typing import Any

import httpx2
import pytest
from fake_endpoint import FakeEndpoint, chat_reply, error_reply
from fastapi import FastAPI, Request
from hypothesis import example, given
from hypothesis import strategies as st
from serving import serve_app

from probemap.models import connection
from probemap.models.concurrent_calls import map_concurrently
from probemap.models.connection import Connection
from probemap.models.endpoint import Endpoint
from probemap.models.replies import Reply, ReplyError, read_models, read_reply
from probemap.models.request_form import AcceptedForm
from probemap.records import ModelError, ProbemapError, RunError

MESSAGES = [{"role": "user", "content": "Where?"}]
PARAMETERS: dict[str, Any] = {"max_tokens": 8, "temperature": 0.0}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}}}


@pytest.fixture(autouse=True)
def few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry twice, without delay."""
    monkeypatch.setattr(connection, "RETRIES", 2)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", "key")


def complete(url: str = "http://x/v1", log: Any = lambda text: None, **more: Any) -> Reply:
    with Connection(url, "m", log=log) as link:
        return link.complete(PARAMETERS | more, messages=MESSAGES)


# --- replies ---


@pytest.mark.parametrize(
    ("choice", "text", "reasoning"),
    [
        ({"message": {"content": "Rome."}}, "Rome.", ""),
        ({"message": {"content": None}}, "", ""),
        ({"message": {}}, "", ""),
        ({"message": {"content": ["Rome", {"type": "text", "text": "."}]}}, "Rome.", ""),
        ({"message": {"content": [{"type": "output_text", "text": "no"}, {"type": "image"}, 7]}}, "no", ""),
        (
            {"message": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, "Rome."]}},
            "Rome.",
            "Hm.",
        ),
        ({"message": {"content": None, "reasoning_content": "Hm."}}, "", "Hm."),
        ({"message": {"content": "", "reasoning": "Hm.", "reasoning_content": None}}, "", "Hm."),
        ({"message": {"content": None, "refusal": "I cannot help."}}, "I cannot help.", ""),
        ({"message": {"content": "Rome.", "refusal": ""}}, "Rome.", ""),
        ({"message": {"content": None, "tool_calls": [{"id": "1"}]}}, "", ""),
        ({"text": " Rome"}, " Rome", ""),
    ],
)
def test_read_reply_reads_text_and_reasoning(choice: dict[str, Any], text: str, reasoning: str) -> None:
    reply = read_reply(json.dumps({"choices": [choice]}), max_tokens=80)
    assert (reply.text, reply.reasoning, reply.stopped) == (text, reasoning, True)


@pytest.mark.parametrize(
    ("finish_reason", "n_produced", "stopped"),
    [
        ("stop", 8, True),
        ("eos_token", 8, True),
        ("end_turn", None, True),
        ("tool_calls", 3, True),
        ("length", 8, False),
        ("MAX_TOKENS", None, False),
        ("content_filter", 3, False),
        (None, 7, True),
        (None, 8, False),
        ("", 8, False),
        (None, None, True),
        (7, 8, False),
        ("end_of_dialogue", 7, True),
        ("end_of_dialogue", 8, False),
        ("end_of_dialogue", None, True),
        ("FinishReason.STOP", 8, True),
        ("FINISH_REASON_STOP", 8, True),
        ("Stop-Sequence", 8, True),
        ({"type": "stop", "matched": 2}, 8, True),
        ({"type": "length", "length": 8}, 3, False),
    ],
)
def test_read_reply_tells_whether_a_text_was_cut_off(finish_reason: Any, n_produced: Any, stopped: bool) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": n_produced}
    reply = read_reply(json.dumps(chat_reply("Rome", finish_reason, usage)), max_tokens=8)
    assert (reply.stopped, reply.n_prompt, reply.n_produced) == (stopped, 5, n_produced)


@pytest.mark.parametrize(
    ("body", "problem", "hint"),
    [
        (
            '{"choices": null}',
            'the reply contains no choices: {"choices": null}',
            "the service behind the server failed",
        ),
        ('{"choices": []}', "the reply contains no choices", "the service behind"),
        ('{"detail": "no"}', 'the reply contains no choices: {"detail": "no"}', "the service behind"),
        ('{"choices": [{"message": null}]}', "neither a message nor a text", "the model generates text"),
        ('{"choices": [null]}', "unexpected format: choices.0: ", "OpenAI-compatible"),
        ('{"choices": [{"message": {"content": 7}}]}', "unexpected format: choices.0.message.content", "OpenAI"),
        ("[]", "unexpected format: the reply: ", "OpenAI-compatible"),
        (" <!doctype html><p>log in", "a web page instead of JSON: <!doctype html><p>log in", "login page"),
        ('{"choices": [{"mess', 'not valid JSON: {"choices": [{"mess', "cut off on the way"),
        ("", "not valid JSON: it is empty", "cut off on the way"),
        ("[" * 100_000, "not valid JSON: [[[", "cut off on the way"),
    ],
)
def test_read_reply_refuses_other_formats(body: str, problem: str, hint: str) -> None:
    with pytest.raises(ReplyError) as caught:
        read_reply(body, max_tokens=8)
    assert problem in caught.value.problem
    assert hint in caught.value.hint
    assert len(caught.value.problem) < 300


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
FIELDS = st.sampled_from(
    "choices message content text refusal reasoning thinking type usage completion_tokens finish_reason error code "
    "data id".split()
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4), max_leaves=12
)
MESSAGE = st.fixed_dictionaries({}, optional={"content": VALUES, "refusal": VALUES, "reasoning": VALUES})
CHOICE = st.fixed_dictionaries({}, optional={"message": MESSAGE | VALUES, "text": VALUES, "finish_reason": VALUES})
REPLIES = VALUES | st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2)}, optional={"usage": VALUES, "error": VALUES}
)


@given(REPLIES)
@example({"error": {"message": None, "code": 200}})
@example({"error": {"message": ["max_tokens"], "code": "418"}})
@example({"choices": [{"message": {"content": [{"type": ["text"]}, {"type": "text", "text": {"value": "x"}}]}}]})
def test_any_reply_is_read_or_refused(body: Any) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        FakeEndpoint(monkeypatch, lambda path, request: httpx2.Response(200, json=body), "m")
        monkeypatch.setattr(connection, "RETRIES", 0)
        try:
            reply = complete()
        except ModelError as error:
            assert str(error).startswith("http://x/v1: ")
            assert error.hint
        else:
            assert isinstance(reply.text, str)
            assert isinstance(reply.reasoning, str)
    with contextlib.suppress(ReplyError):
        assert all(isinstance(name, str) for name in read_models(json.dumps(body)))


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_refused_unless_it_is_a_reply(body: str) -> None:
    with pytest.raises(ReplyError):
        read_reply(body, max_tokens=8)


# --- forms of a request ---


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "Unrecognized request argument supplied: max_tokens",
        '[{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]',
    ],
)
def test_max_completion_tokens_replaces_max_tokens(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    server = FakeEndpoint(
        monkeypatch, lambda path, body: error_reply(400, message) if "max_tokens" in body else chat_reply("Rome")
    )
    messages: list[str] = []
    form = AcceptedForm("http://x/v1")
    for _ in range(2):
        with Connection("http://x/v1", "m", form=form, log=messages.append) as link:
            assert link.complete(PARAMETERS, messages=MESSAGES).text == "Rome"
    limits = [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in server.requests]
    assert limits == [(8, None), (None, 8), (None, 8)], "the refusal is remembered"
    assert messages == [], "the texts are the same"


def test_a_parameter_refused_under_both_names_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, body: Any) -> Any:
        name = next(name for name in body if name.startswith("max"))
        return error_reply(422, f"{name} must be at least 16", param=name)

    server = FakeEndpoint(monkeypatch, refuse)
    with pytest.raises(ModelError, match="max_tokens must be at least 16"):
        complete()
    assert len(server.requests) == 3


def test_a_refused_temperature_and_seed_are_left_out_and_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(path: str, body: Any) -> Any:
        if "temperature" in body:
            return error_reply(400, "Unsupported value: only the default (1) value is supported", param="temperature")
        return error_reply(400, "Unknown argument: seed") if "seed" in body else chat_reply("Rome")

    server, messages = FakeEndpoint(monkeypatch, respond), list[str]()
    with Connection("http://x/v1", "m", log=messages.append) as link:
        for seed in (3, 4):
            assert link.complete(PARAMETERS | {"seed": seed}, messages=MESSAGES).text == "Rome"
    assert [sorted(body) for body in server.requests] == [
        ["max_tokens", "messages", "model", "seed", "temperature"],
        ["max_tokens", "messages", "model", "seed"],
        ["max_tokens", "messages", "model"],
        ["max_tokens", "messages", "model"],
    ]
    assert [text.split(":")[0] for text in messages] == [
        "the server does not accept the requested temperature",
        "the server does not accept a seed",
    ]


@pytest.mark.parametrize(
    ("refused", "formats", "n_messages"),
    [
        ({"json_schema"}, ["json_schema", "json_object"], 1),
        ({"json_schema", "json_object"}, ["json_schema", "json_object", None], 2),
        (set(), ["json_schema"], 0),
    ],
)
def test_the_response_format_is_weakened_only_if_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, refused: set[str], formats: list[Any], n_messages: int
) -> None:
    def respond(path: str, body: Any) -> Any:
        kind = body.get("response_format", {}).get("type")
        if kind in refused:
            return error_reply(400, f"response_format.type: '{kind}' is not available")
        return chat_reply("{}")

    server, messages = FakeEndpoint(monkeypatch, respond), list[str]()
    assert complete(log=messages.append, response_format=SCHEMA).text == "{}"
    assert [body.get("response_format", {}).get("type") for body in server.requests] == formats
    assert len(messages) == n_messages


def test_concurrent_requests_adapt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(path: str, body: Any) -> Any:
        time.sleep(0.01)
        return error_reply(400, "no temperature") if "temperature" in body else chat_reply("Rome")

    FakeEndpoint(monkeypatch, respond)
    messages: list[str] = []
    with Connection("http://x/v1", "m", log=messages.append) as link:
        texts = list(map_concurrently(lambda i: link.complete(PARAMETERS, messages=MESSAGES).text, [range(20)], 8))
    assert texts == ["Rome"] * 20
    assert len(messages) == 1


def test_a_text_with_a_lone_surrogate_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeEndpoint(monkeypatch, lambda path, body: chat_reply("Rome"))
    with Connection("http://x/v1", "m") as link:
        link.complete(PARAMETERS, messages=[{"role": "user", "content": "a\ud800b"}])
    assert server.requests[0]["messages"][0]["content"] == "a?b"


# --- addresses and keys ---


@pytest.mark.parametrize(
    "url",
    [
        "http://x/v1",
        "http://x/v1/",
        " http://x/v1// ",
        "http://x/v1/chat/completions",
        "http://x/v1/models/",
        "http://x",
    ],
)
def test_base_urls_in_several_forms(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    def respond(path: str, body: Any) -> Any:
        return chat_reply("Rome") if path == "/v1/chat/completions" else error_reply(404, "Not Found")

    server = FakeEndpoint(monkeypatch, respond)
    assert complete(Endpoint(url).url).text == "Rome"
    assert server.urls[-1] == "http://x/v1/chat/completions"
    assert len(server.urls) == (2 if url == "http://x" else 1)


def test_a_web_page_at_the_root_leads_to_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    page = httpx2.Response(200, html="<html>Hello</html>")
    FakeEndpoint(monkeypatch, lambda path, body: chat_reply("Rome") if path.startswith("/v1") else page)
    assert complete("http://x").text == "Rome"
    with pytest.raises(
        ModelError, match=r"http://x/api: the reply is a web page instead of JSON: <html>Hello</html>\nhint"
    ):
        complete("http://x/api")


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://x/v1", "http://", "http://x:port/v1", "http://[x/v1", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RunError, match=r"is not the URL of a server\nhint: write it as, for example, http://127"):
        Endpoint(url)


@pytest.mark.parametrize(("key", "sent"), [("sk-1\n", "Bearer sk-1"), ("", "Bearer none"), (None, "Bearer none")])
def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, key: str | None, sent: str) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    server = FakeEndpoint(monkeypatch, lambda path, body: chat_reply("Rome"))
    with Connection("http://x/v1") as link:
        assert link.model == "only"
    assert complete().text == "Rome"
    assert [headers["authorization"] for headers in server.headers] == [sent, sent]


def test_a_key_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    with pytest.raises(ModelError, match="OPENAI_API_KEY contains characters that an API key cannot contain"):
        complete()


# --- errors ---


@pytest.mark.parametrize(
    ("status", "message", "hint", "n_requests"),
    [
        (400, "bad request", "check that the model generates text", 1),
        (400, "maximum context length is 512 tokens, max_tokens is too large", "exceed the server's context window", 1),
        (401, "Incorrect API key", "set the server's API key in the environment variable OPENAI_API_KEY", 1),
        (403, "no access", "may use this model", 1),
        (404, "no model m", "the name of the model (--served-name)", 1),
        (429, "slow down", "use a lower --in-flight or wait", 3),
        (429, "You exceeded your current quota", "the account has no credit", 3),
        (500, "oops", "the server failed; look at its log", 3),
        (503, "overloaded", "the server failed; look at its log", 3),
    ],
)
@pytest.mark.parametrize("reported", [True, False], ids=["status", "status 200"])
def test_errors_are_retried_or_reported_with_their_cause(
    monkeypatch: pytest.MonkeyPatch, status: int, message: str, hint: str, n_requests: int, reported: bool
) -> None:
    error = {"error": {"message": message, "code": status}, "choices": None}
    server = FakeEndpoint(monkeypatch, lambda path, body: httpx2.Response(status if reported else 200, json=error))
    with pytest.raises(ModelError) as caught:
        complete()
    assert f"Error code: {status}" in caught.value.problem
    assert message in caught.value.problem
    assert hint in caught.value.hint
    assert "is running" not in caught.value.hint
    assert len(server.requests) == n_requests


def test_a_prompt_that_a_content_filter_rejects_has_an_empty_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeEndpoint(monkeypatch, lambda path, body: error_reply(400, "The response was filtered", code="content_filter"))
    assert complete() == Reply(text="", reasoning="", stopped=False, n_prompt=None, n_produced=None)


@pytest.mark.parametrize("code", [None, "rate_limit", 42])
def test_an_error_without_a_status_code_is_not_retried(monkeypatch: pytest.MonkeyPatch, code: Any) -> None:
    server = FakeEndpoint(monkeypatch, lambda path, body: {"error": {"message": "no", "code": code}})
    with pytest.raises(ModelError, match="Error code: 400"):
        complete()
    assert len(server.requests) == 1


def test_a_transient_error_with_status_200_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = iter([{"choices": None, "error": {"message": "busy", "code": 429}}, chat_reply("Rome")])
    FakeEndpoint(monkeypatch, lambda path, body: next(replies))
    assert complete().text == "Rome"


@pytest.mark.parametrize("in_seconds", [True, False])
def test_retry_after_is_respected(monkeypatch: pytest.MonkeyPatch, in_seconds: bool) -> None:
    """Over a real connection: the first request is refused for one second, or until a date."""
    app, times = FastAPI(), list[float]()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        from fastapi.responses import JSONResponse

        times.append(time.time())
        if len(times) == 1:
            wait = "1" if in_seconds else formatdate(time.time() + 2, usegmt=True)
            return JSONResponse({"error": {"message": "slow down"}}, 429, headers={"Retry-After": wait})
        return chat_reply("Rome")

    with serve_app(app) as client:
        assert complete(f"{client.base_url}v1").text == "Rome"
    assert 0.9 < times[1] - times[0] < 4


def test_a_connection_error_names_its_cause() -> None:
    with pytest.raises(ProbemapError) as caught:
        complete("http://127.0.0.1:9/v1")
    assert caught.value.problem == "http://127.0.0.1:9/v1: Connection error. ([Errno 111] Connection refused)"
    assert caught.value.hint.startswith("check that the server is running")


def test_a_slow_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(path: str, body: Any) -> Any:
        raise httpx2.ReadTimeout("slow")

    FakeEndpoint(monkeypatch, respond)
    with pytest.raises(ModelError, match=r"did not respond in time\nhint: the server took too long; use a lower"):
        complete()


# --- replies that were reported publicly ---


def events(*chunks: Any) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def chunk(finish_reason: str | None = None, **delta: str) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


REPORTED: dict[str, tuple[str, tuple[str, str, bool]]] = {
    "BerriAI/litellm#25766: a stream although none was requested": (
        events(
            chunk(role="assistant", content=""), chunk(content="It is "), chunk(content="Rome."), chunk("length"),
            {"choices": [], "usage": {"completion_tokens": 3}},
        ),
        ("It is Rome.", "", False),
    ),
    "unslothai/unsloth#6570: a stream with reasoning": (
        ": keep-alive\n\n"
        + events(chunk(reasoning_content="Hm"), chunk(reasoning_content="."), chunk("stop", content="Rome.")),
        ("Rome.", "Hm.", True),
    ),
    "abetlen/llama-cpp-python#133: a stream of texts that was interrupted": (
        'data: {"choices": [{"text": "Par", "finish_reason": null}]}\n\n', ("Par", "", False),
    ),
    "JustVugg/colibri#1589: half of a character": (
        r'{"choices": [{"message": {"content": "Rome \ud83d \ud83d\ude00 \\ud83d \udE00."}, "finish_reason": "stop"}]}',
        ("Rome \ufffd 😀 \\ud83d \ufffd.", "", True),
    ),
    "pydantic/pydantic-ai#2844: finish_reason error": (
        json.dumps(chat_reply("It is", "error")), ("It is", "", False),
    ),
    "pydantic/pydantic-ai#7816: finish_reason guardrail_intervened": (
        json.dumps(chat_reply("It is", "guardrail_intervened")), ("It is", "", False),
    ),
    "BerriAI/litellm#21348: finish_reason malformed_function_call": (
        json.dumps(chat_reply("It is in Italy.", "malformed_function_call", {"completion_tokens": 5})),
        ("It is in Italy.", "", True),
    ),
    "ml-explore/mlx-lm#782: finish_reason tool_call": (
        json.dumps(chat_reply(None, "tool_call", tool_calls=[{"id": "1"}])), ("", "", True),
    ),
    "dstackai/dstack#2229: finish_reason is empty": (
        json.dumps(chat_reply("It is in", "", {"completion_tokens": 8})), ("It is in", "", False),
    ),
    "openshift-psap/llm-load-test#47: neither usage nor finish_reason": (
        '{"choices": [{"message": {"content": "It is in Italy, and"}}]}', ("It is in Italy, and", "", False),
    ),
    "router-for-me/CLIProxyAPI#5733: completion_tokens is 0 with reasoning": (
        json.dumps(chat_reply("It is in Italy.", None, {"completion_tokens": 0, "prompt_tokens": 21})),
        ("It is in Italy.", "", False),
    ),
    "567-labs/instructor#994: line breaks before the reply": (
        "\n\n \n" + json.dumps(chat_reply("Rome.")), ("Rome.", "", True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("report", REPORTED)
def test_reported_replies_are_read(report: str) -> None:
    body, expected = REPORTED[report]
    reply = read_reply(body, max_tokens=8)
    assert (reply.text, reply.reasoning, reply.stopped) == expected


@pytest.mark.parametrize(
    "body",
    [
        '[{"id": "m", "object": "model"}]',  # odysseus-dev/odysseus#2202, songquanpeng/one-api#128
        '{"models": ["m"]}',  # vllm-project/router#133
        '{"models": [{"name": "m"}]}',
        '{"data": [{"id": "m"}]}',  # AndraxDev/speak-gpt#105: neither object nor owned_by
    ],
)
def test_reported_lists_of_models_are_read(body: str) -> None:
    assert read_models(body) == ["m"]
    assert read_models('{"object": "list", "data": null}') == []


@pytest.mark.parametrize(
    ("report", "body", "problem"),
    [
        ("keephq/keep#6705", '{"choices": []}', "the reply contains no choices"),
        ("openai/openai-agents-python#2850", '{"choices": null, "error": null}', "the reply contains no choices"),
        ("BerriAI/litellm#40294", '{"choices": {}}', "unexpected format: choices: Input should be a valid array"),
        ("LagPixelLOL/ChatGPTCLIBot#31", 'role":"assistant"}', "the reply is not valid JSON"),
        ("abetlen/llama-cpp-python#133", 'data: {"choices": [{"te', "the reply is not valid JSON"),
        ("SamSaffron/term-llm#454", "event: error\ndata: {}\n\n", "the reply contains no choices"),
    ],
)
def test_reported_replies_are_refused_in_words(report: str, body: str, problem: str) -> None:
    with pytest.raises(ReplyError) as caught:
        read_reply(body, max_tokens=8)
    assert problem in caught.value.problem
    assert caught.value.hint


def test_a_stream_is_read_from_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    headers, text = {"content-type": "text/event-stream"}, events(chunk("stop", content="東京"))
    FakeEndpoint(monkeypatch, lambda path, body: httpx2.Response(200, text=text, headers=headers), "m")
    reply = complete()
    assert (reply.text, reply.stopped) == ("東京", True)


def test_an_unknown_finish_reason_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeEndpoint(monkeypatch, lambda path, body: chat_reply("Rome.", "odd", {"completion_tokens": 3}), "m")
    messages: list[str] = []
    with Connection("http://x/v1", "m", log=messages.append) as link:
        replies = [link.complete(PARAMETERS, messages=MESSAGES) for _ in range(3)]
    assert [reply.stopped for reply in replies] == [True] * 3
    assert [message.split(":")[0] for message in messages] == ["the server's finish_reason 'odd' is not known"]
