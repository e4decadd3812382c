"""Chat templates of many kinds, most of them after public reports: each works or is refused in words."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CHAT_TEMPLATE, byte_level_tokenizer, save_tiny_model
from odd_models import QUESTION, model_with_template
from running import execute

from probemap.models.ask import ask
from probemap.models.loading import Loader, Models
from probemap.models.prompts import chat_prompt, end_of_turn_id, make_prompt, prompt_from_text
from probemap.records import DataError, Example, ModelError, Task
from probemap.runs.definitions import ANSWER
from probemap.runs.run import Run

USER = {"role": "user", "content": QUESTION}
EXAMPLE = Example("a", QUESTION, ("Austria",))
TASK = Task("t", (EXAMPLE,), "open", max_new_tokens=2)
HEADER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
NAME = "<|im_start|>{{ m['role'] }}\n"
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}<|im_end|>{% endif %}"
    "{% endfor %}"
)

WORKING = {
    "Mistral writes nothing between question and answer (transformers#28355)": (
        ALTERNATING,
        f"[INST] {QUESTION} [/INST]",
    ),
    "Llama 3 begins the answer whether asked to or not (transformers#30893)": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}"
        "<|im_start|>assistant:",
        f"<|im_start|>user\n{QUESTION}<|im_end|><|im_start|>assistant:",
    ),
    "a template never begins the answer (transformers#34248)": (
        "{% for m in messages %}" + NAME + "{{ m['content'] }}<|im_end|>\n{% endfor %}",
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "a template with a header in words never begins the answer": (
        "{% for m in messages %}{{ m['role'] | upper }}: {{ m['content'] }}\n{% endfor %}",
        f"USER: {QUESTION}\nASSISTANT:",
    ),
    "Qwen3 takes strings only (LiteRT-LM#3688)": (
        "{% for m in messages %}{% set c = m.content if m.content is string else '' %}"
        + "<|im_start|>{{ m.role }}\n{{ c }}<|im_end|>\n{% endfor %}"
        + HEADER,
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "InternVL concatenates strings (InternVL#1173)": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}" + HEADER,
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "Idefics2 takes parts only and renders strings as nothing (transformers#32303)": (
        "{% for m in messages %}{{ m.role | capitalize }}:{% for part in m.content %}{% if part.type == 'text' %} "
        "{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}",
        f"User: {QUESTION}<|im_end|>\nAssistant:",
    ),
    "Mistral Small 3.1 reads the first part and fails for strings (vllm#16219)": (
        "{% for m in messages %}{% set text = m.content[0]['text'] + '' %}"
        "{% if m.role == 'user' %}[INST]{{ text }}[/INST]{% else %}{{ text }}<|im_end|>{% endif %}{% endfor %}",
        f"[INST]{QUESTION}[/INST]",
    ),
    "Gemma 4 calls methods of dictionaries (inspect_ai#5101)": (
        "{% for m in messages %}<|im_start|>{{ m.get('role') }}\n{{ m.get('reasoning') or '' }}"
        "{{ m['content'] | trim }}<|im_end|>\n{% endfor %}" + HEADER,
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "DeepSeek-R1 opens the reasoning (DeepSeek-R1#352)": (
        "{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>"
        "{{ m.content.split('</think>')[-1] }}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}",
        f"<｜User｜>{QUESTION}<｜Assistant｜><think>\n",
    ),
    "Qwen3.5 requires a user (dify#33152)": (
        "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}"
        "{{ raise_exception('No user query found in messages.') }}{% endif %}" + CHAT_TEMPLATE,
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "a template writes the conversation as JSON": (
        "{{ messages | tojson }}\n{% if add_generation_prompt %}assistant: {% endif %}",
        '[{"role": "user", "content": "In which country is Vienna?"}]\nassistant: ',
    ),
    "questions only": (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}" + HEADER,
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ),
}
"""Report -> template and the prompt for `QUESTION`."""


@pytest.mark.parametrize(("template", "expected"), WORKING.values(), ids=WORKING)
def test_template_gives_the_prompt(template: str, expected: str) -> None:
    model = model_with_template(template)
    prompt = make_prompt(model, TASK, EXAMPLE, "chat")
    assert prompt.text == expected
    assert model.tokenizer.decode(prompt.token_ids) == expected


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "syntax": (
        "{% for m in messages %}<|im_start|>",
        ModelError,
        r"the chat template of odd is not a valid template: Unexpected end of template.*\(line 1\)\nhint: .*--frame qa",
    ),
    "TypeError": (
        "{{ 'x' + 1 }}" + CHAT_TEMPLATE,
        ModelError,
        r'the chat template of odd fails: TypeError: can only concatenate str \(not "int"\) to str\nhint: correct',
    ),
    "an attribute that messages lack": (
        "{{ 'System: ' + messages[0]['system'] }}" + CHAT_TEMPLATE,
        ModelError,
        "the chat template of odd fails: UndefinedError: 'dict object' has no attribute 'system'",
    ),
    "a question that is left out (trl#5868)": (
        "<|im_start|>system\nBe brief.<|im_end|>\n" + HEADER,
        DataError,
        r"leaves out the message 'In which country is Vienna\?' \(user\): the rendered text is '<\|im_start\|>system",
    ),
    "a question in capitals": ("{{ messages[0].content | upper }}", DataError, "leaves out the message"),
    "a template that writes parts as they are": (
        "{% for m in messages %}{% if m.content is string %}{{ raise_exception('parts only') }}{% endif %}"
        "{{ m.content }}{% endfor %}",
        DataError,
        "the chat template of odd rejects this conversation: parts only",
    ),
    "random choices": (
        "{{ messages[0].content }}{{ range(99999) | random }}",
        ModelError,
        "the chat template of odd renders the same conversation differently each time",
    ),
    "Mixtral has several templates (lm-evaluation-harness#1962, lm-evaluation-harness#2129)": (
        {"rag": CHAT_TEMPLATE, "tool_use": CHAT_TEMPLATE},
        ModelError,
        "odd has several chat templates and none of them is the default: rag, tool_use\nhint: .*--template rag",
    ),
}


@pytest.mark.parametrize(("template", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_template_is_refused_in_words(template: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_prompt(model_with_template(template), TASK, EXAMPLE, "chat")


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (  # Gemma (lm-evaluation-harness#2069)
            "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
            + CHAT_TEMPLATE,
            [{"role": "system", "content": "Be brief."}, USER],
            "rejects this conversation: System role not supported\nhint: use alternating",
        ),
        (  # Llama 2 (llama_index#11731)
            ALTERNATING,
            [USER, USER],
            "rejects this conversation: Conversation roles must alternate",
        ),
        (  # a system message that is ignored
            "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
            [{"role": "system", "content": "Be brief."}, USER],
            r"leaves out the message 'Be brief.' \(system\)",
        ),
        (  # worked examples, of which the answers are ignored
            WORKING["questions only"][0],
            [USER, {"role": "assistant", "content": "Austria"}, {"role": "user", "content": "And Paris?"}],
            r"leaves out the message 'Austria' \(assistant\)",
        ),
        (  # gpt-oss (llama.cpp#15181)
            "{% for m in messages %}{% if '<|channel|>' in m.content %}{{ raise_exception('channel tags') }}{% endif %}"
            "{{ m.content }}{% endfor %}",
            [USER, {"role": "assistant", "content": "<|channel|>final<|message|>Austria"}, USER],
            "rejects this conversation: channel tags",
        ),
    ],
)
def test_conversation_is_refused_in_words(template: str, messages: list[dict[str, str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        chat_prompt(model_with_template(template), messages)


def test_earlier_answers_may_lose_their_reasoning() -> None:
    model = model_with_template(WORKING["DeepSeek-R1 opens the reasoning (DeepSeek-R1#352)"][0])
    shots = ((QUESTION, "<think>\nHm.\n</think>\n\nAustria"),)
    prompt = make_prompt(model, replace(TASK, shots=shots), EXAMPLE, "chat")
    assert "Austria<|im_end|>" in prompt.text
    assert "Hm." not in prompt.text


def test_end_of_turn_is_read_from_whatever_the_template_accepts() -> None:
    last_is_user = "{% if messages[-1].role != 'user' %}{{ raise_exception('user last') }}{% endif %}" + CHAT_TEMPLATE
    for template in (CHAT_TEMPLATE, last_is_user, ALTERNATING):
        model = model_with_template(template)
        assert end_of_turn_id(model) == model.tokenizer.eos_token_id
    assert end_of_turn_id(model_with_template(WORKING["questions only"][0])) is None


def test_named_templates_are_chosen_and_identified() -> None:
    named = {"default": CHAT_TEMPLATE, "rag": "Documents: none\n" + CHAT_TEMPLATE}
    model = model_with_template(named)
    assert make_prompt(model, TASK, EXAMPLE, "chat").text.startswith("<|im_start|>user")
    assert model.template_sha256 == hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()
    rag = model.with_template("rag", None)
    assert make_prompt(rag, TASK, EXAMPLE, "chat").text.startswith("Documents: none\n<|im_start|>user")
    assert rag.template_sha256 == hashlib.sha256(named["rag"].encode()).hexdigest()
    assert rag.network is model.network
    assert model.with_template_sha256(rag.template_sha256).template == "rag"
    assert model.with_template_sha256("0" * 64) is model
    with pytest.raises(ModelError, match=r"odd has no chat template named 'tool_use'\nhint: .*: default, rag"):
        model.with_template("tool_use", None)
    assert model_with_template({"rag": CHAT_TEMPLATE, "x": ""}).template_sha256 == "", "none is chosen"
    assert make_prompt(model_with_template({"only": CHAT_TEMPLATE}), TASK, EXAMPLE, "chat").text.startswith(
        "<|im_start"
    )


CLOCK = "{%- set today = strftime_now('%-d %b %Y, %H:%M:%S') %}{{ 'Today: ' + today }}\n" + CHAT_TEMPLATE


def test_clock_of_template_is_set_to_the_date_of_the_model() -> None:
    """As in Llama 3.2 (textgen#6692) and Mistral Small 3 (text-generation-inference#2987)."""
    model = model_with_template(CLOCK).with_template(None, "2020-02-03T04:05:06")
    assert make_prompt(model, TASK, EXAMPLE, "chat").text.startswith("Today: 3 Feb 2020, 04:05:06\n<|im_start|>user")
    assert model.chat_template.notes == [
        "the chat template of odd may write the current date or time: 2020-02-03T04:05:06 is used in all prompts"
    ]
    leading = "\n{% macro year() %}{{ strftime_now('100%% %Y') }}{% endmacro %}{{ year() if strftime_now is defined }}"
    model = model_with_template(leading + CHAT_TEMPLATE).with_template(None, "2020-02-03T04:05:06")
    assert make_prompt(model, TASK, EXAMPLE, "chat").text.startswith("\n100% 2020<|im_start|>user")
    task = replace(TASK, examples=(EXAMPLE, replace(EXAMPLE, id="b")), max_new_tokens=1)
    answers = ask(model_with_template(CLOCK), task, batch_size=1)
    assert answers[0].prompt == answers[1].prompt


def test_clock_of_template_supports_all_format_codes() -> None:
    template = "{%set code = '%u'%}{{ strftime_now('%F %T %R %D %e %-S %G-%V %j %%d %d%% ' + code) }} " + CHAT_TEMPLATE
    model = model_with_template(template).with_template(None, "2024-07-05T09:08:03")
    expected = "2024-07-05 09:08:03 09:08 07/05/24  5 3 2024-27 187 %d 05% 5 <|im_start|>user"
    assert make_prompt(model, TASK, EXAMPLE, "chat").text.startswith(expected)


def test_template_that_fails_for_answers_only_renders_questions() -> None:
    template = "{% for m in messages %}{{ m.content if m.role == 'user' else undefined_name.x }}{% endfor %}"
    prompt = make_prompt(model_with_template(template), TASK, EXAMPLE, "chat")
    assert prompt.text == EXAMPLE.question
    assert model_with_template(template).chat_template.after_answer == ""


def test_resumed_run_has_the_date_of_its_first_prompts(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = {"default": CHAT_TEMPLATE, "dated": CLOCK}
    model = save_tiny_model(tmp_path / "clock", tokenizer)
    questions = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{i}", "question": f"{QUESTION} {i}", "answers": ["Austria"]} for i in range(3)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {"data": str(questions), "model": str(model), "template": "dated"}
    options |= {"max_new_tokens": 1, "batch_size": 1}
    run = execute(ANSWER, tmp_path / "run", **options)
    facts = run.record(ANSWER).facts
    assert len(facts.date) == 19
    assert len({answer.prompt.split("\n")[0] for answer in run.answers}) == 1
    assert run.loader().load({}).template_sha256 == facts.template == hashlib.sha256(CLOCK.encode()).hexdigest()

    content = json.loads((run.path / "run.json").read_text())
    content["steps"]["answer"]["done"] = False
    content["steps"]["answer"]["facts"]["date"] = "2020-02-03T04:05:06"
    (run.path / "run.json").write_text(json.dumps(content))
    lines = (run.path / "answers.jsonl").read_text().splitlines(keepends=True)
    (run.path / "answers.jsonl").write_text(lines[0])
    resumed = execute(ANSWER, Run(run.path), **options)
    assert [answer.prompt.split("\n")[0] for answer in resumed.answers][1:] == ["Today: 3 Feb 2020, 04:05:06"] * 2


def test_loaders_of_other_templates_share_the_weights(chat_folder: Path) -> None:
    models: Models = {}
    loader = Loader(str(chat_folder))
    first = loader.load(models)
    second = replace(loader, date="2020-02-03T04:05:06").load(models)
    assert second.network is first.network
    assert (first.date, second.date) == (None, "2020-02-03T04:05:06")


@pytest.mark.parametrize("template", ["{{ 'x' + 1 }}", "{% for m in messages %}", {"rag": CHAT_TEMPLATE, "tool": "x"}])
def test_supplied_prompts_need_no_working_template(template: Any) -> None:
    prompt = prompt_from_text(model_with_template(template), "Q: Where is Vienna?\nA:")
    assert (prompt.text, prompt.is_chat) == ("Q: Where is Vienna?\nA:", False)
