"""Every form of reasoning that models write: complete, unfinished, nested, repeated, and opened by the prompt."""

import re

import pytest
from conftest import byte_level_tokenizer
from odd_models import model_with_template, tiny_model

from probemap.models.decoding import decode_with_offsets
from probemap.models.prompts import prompt_from_text
from probemap.models.reasoning import MARKS, count_reasoning_tokens, final_answer, join_reasoning, marks_of
from probemap.models.retokenise import retokenise
from probemap.records import TextAnswer

FORMS = {
    "DeepSeek-R1 (vllm, deepseek_r1_reasoning_parser.py)": ("<think>\n", "\n</think>\n\n"),
    "Qwen3 without thinking (vllm, qwen3_reasoning_parser.py)": ("<think>", "\n\n</think>\n\n"),
    "capitals (hermes-agent#67632)": ("<THINK>", "</THINK>"),
    "attributes (open-webui, middleware.py)": ('<think type="deep">', "</think >"),
    "Hunyuan (vllm, hunyuan_a13b_reasoning_parser.py)": ("<think>\n", "\n</think>\n<answer>\n"),
    "ERNIE 4.5 (vllm, ernie45_reasoning_parser.py)": ("<think>\n", "\n</think>\n\n<response>\n"),
    "thinking (nanobot#4466)": ("<thinking>", "</thinking>"),
    "Reflection (open-webui, middleware.py)": ("<thinking>\n", "\n</thinking>\n<output>\n"),
    "EXAONE Deep (hermes-agent#67632)": ("<thought>\n", "\n</thought>\n\n"),
    "Marco-o1 (open-webui, middleware.py)": ("<Thought>\n", "\n</Thought>\n<Output>\n"),
    "Reka Flash 3 (open-webui, middleware.py)": ("<reasoning>", "</reasoning>\n\n"),
    "reason (open-webui, middleware.py)": ("<reason>", "</reason>"),
    "Seed-OSS (vllm, seedoss_reasoning_parser.py)": ("<seed:think>", "</seed:think>"),
    "MiniMax M3 (sglang, reasoning_parser.py)": ("<mm:think>", "</mm:think>"),
    "LongCat (vllm, longcat_reasoning_parser.py)": ("<longcat_think>\n", "\n</longcat_think>\n"),
    "Hermes (hermes-agent#11366)": ("<REASONING_SCRATCHPAD>", "</REASONING_SCRATCHPAD>"),
    "scratchpad, a tag of Hermes 3": ("<scratchpad>", "</scratchpad>"),
    "Claude, a tag that LobeHub removes": ("<antThinking>", "</antThinking>"),
    "inner monologue, a tag of Hermes 3": ("<inner_monologue>", "</inner_monologue>"),
    "Magistral (vllm, mistral_reasoning_parser.py)": ("[THINK]", "[/THINK]"),
    "Kimi-VL (sglang, reasoning_parser.py)": ("◁think▷", "◁/think▷"),
    "OpenThinker, Sky-T1 (open-webui, middleware.py)": (
        "<|begin_of_thought|>\n\n",
        "\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n",
    ),
    "Command A (vllm, cohere_command_reasoning_parser.py)": (
        "<|START_THINKING|>",
        "<|END_THINKING|><|START_RESPONSE|>",
    ),
    "Apertus (vllm, apertus_reasoning_parser.py)": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "Gemma 4 (vllm, gemma4_utils.py)": ("<|channel>thought\n", "\n<channel|>"),
    "gpt-oss (openai/harmony, docs/format.md)": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "gpt-oss with tools (openai/harmony, docs/format.md)": (
        "<|channel|>commentary to=functions.x <|message|>",
        "<|end|><|start|>assistant<|channel|>final <|constrain|>JSON<|message|>",
    ),
    "Apriel (llama.cpp, unsloth-Apriel-1.5.jinja)": ("Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n"),
    "s1 (simplescaling/s1)": ("<|im_start|>think\n", "\n<|im_start|>answer\n"),
    "Solar Open (llama.cpp#18540)": ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    "Kimi K3 (sglang, reasoning_parser.py)": ("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>"),
    "Inkling (sglang, inkling_tokenizer.py)": (
        "<|content_thinking|>",
        "<|end_message|><|message_model|><|content_text|>",
    ),
    "Pangu (vllm, pangu_reasoning_parser.py)": ("[unused16]", "[unused17]"),
}
"""Model and source -> the texts before and after the reasoning."""

INITIAL_FORMS = {
    "gpt-oss without special tokens (textgen#7374)": ("analysis", "assistantfinal"),
    "gpt-oss without some of them (lalamo#278)": ("assistantcommentary", "assistant<|channel|>final<|message|>"),
    "Granite 3.2 (vllm, granite_reasoning_parser.py)": ("Here is my thought process: ", "\n\nHere is my response: "),
    "Granite 3.2, quantised (vllm, granite_reasoning_parser.py)": (
        "Here's my thought process:",
        " Here's my response:\n",
    ),
    "HyperCLOVA X (vllm, hyperclovax_seed_think_14b_reasoning_parser.py)": (
        "/think\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "HuatuoGPT-o1 (FreedomIntelligence/HuatuoGPT-o1, README.md)": ("## Thinking\n\n", "\n\n## Final Response\n\n"),
}
"""Forms that are recognised only at the beginning of the generated text, because they may be ordinary text."""

SPECIAL_TOKENS = [
    *("<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "<|message|>", "<|start|>", "<|end|>"),
    *("<|channel>", "<channel|>", "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>"),
    *("<|inner_prefix|>", "<|inner_suffix|>", "<seed:think>", "</seed:think>", "<|begin_of_thought|>"),
    *("<|end_of_thought|>", "◁think▷", "◁/think▷", "<|think|>", "<|content|>", "<|open|>", "<|close|>", "<|sep|>"),
]

REASONING, ANSWER = "Rome? Or Spain?", "It is Italy."
ALL_FORMS = {**FORMS, **INITIAL_FORMS}


def split(text: str, prompt: str = "Q") -> str:
    """Return the final answer of a text in which every character is a token."""
    return text[count_reasoning_tokens(prompt, text, [(i, i + 1) for i in range(len(text))]) :]


def test_all_marks_are_tested() -> None:
    texts = [opening + REASONING for opening, _ in ALL_FORMS.values()]
    untested = [m.written for m in MARKS if m.closing and not any(re.match(m.opening, text) for text in texts)]
    assert untested == []


@pytest.mark.parametrize(("opening", "closing"), ALL_FORMS.values(), ids=ALL_FORMS)
def test_marks_are_recognised_at_the_beginning_of_the_text(opening: str, closing: str) -> None:
    complete = opening + REASONING + closing + ANSWER
    assert split(complete) == split(f"\n {complete}") == ANSWER
    assert split(opening + REASONING) == "", "unfinished: all is reasoning"
    assert split(opening + REASONING + closing) == "", "cut off before the answer"
    assert split(opening + REASONING + complete) == ANSWER, "nested, closed once"
    assert split(opening + REASONING + opening + "Spain" + closing + REASONING + closing + ANSWER) == ANSWER
    assert split(ANSWER) == ANSWER
    assert split(f"{ANSWER} {opening}") == f"{ANSWER} {opening}", "reasoning stands at the beginning"


@pytest.mark.parametrize(("opening", "closing"), FORMS.values(), ids=FORMS)
def test_marks_are_recognised_at_the_end_of_the_prompt(opening: str, closing: str) -> None:
    for prompt in (f"Q{opening}", f"Q{opening}\n"):
        assert split(REASONING + closing + ANSWER, prompt) == ANSWER
        assert split(REASONING, prompt) == ""
    assert split(ANSWER, f"Q{opening}{closing}") == ANSWER, "the template has turned the reasoning off"
    assert split(f"{opening}{REASONING}{closing}{ANSWER}\n{opening}{REASONING}") == "", "a second, unfinished reasoning"


@pytest.mark.parametrize(("opening", "closing"), INITIAL_FORMS.values(), ids=INITIAL_FORMS)
def test_marks_that_may_be_text_are_ignored_at_the_end_of_the_prompt(opening: str, closing: str) -> None:
    assert split(ANSWER, f"Q{opening}") == ANSWER


@pytest.mark.parametrize(("opening", "closing"), FORMS.values(), ids=FORMS)
def test_marks_are_recognised_as_special_tokens(opening: str, closing: str) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS})
    token_ids = tokenizer(opening + REASONING + closing + ANSWER, add_special_tokens=False)["input_ids"]
    text, offsets = decode_with_offsets(tokenizer, token_ids)
    own_marks = marks_of(set(tokenizer.get_added_vocab()), "")
    n = count_reasoning_tokens("Q", text, offsets, own_marks)
    assert text[offsets[n][0] :] == ANSWER


def test_gemma_channel_without_special_tokens_has_no_end() -> None:
    text = "thought\nRome? Spain?\nIt is Italy."
    offsets = [(i, i + 1) for i in range(len(text))]
    own_marks = marks_of({"<|channel>"}, "")
    assert count_reasoning_tokens("Q", text, offsets, own_marks) == len(text), "where the reasoning ends is unknown"
    assert split(text) == text, "other models write the word thought"
    assert split("thoughtful people say Italy") == "thoughtful people say Italy"


@pytest.mark.parametrize(
    "text",
    [
        "analysis of the map shows Italy",
        "Analysis: Italy",
        "analysis.",
        "analysis, the study of limits",
        "analysis1",
        "commentary\nIt is a commentary.",
        "thought\nIt is thought.",
        "commentary on it",
        "final answer: Italy",
        "/think",
        "Here is",
    ],
)
def test_ordinary_texts_are_no_reasoning(text: str) -> None:
    assert split(text) == text


def test_channel_final_alone_is_no_reasoning() -> None:
    assert split("<|channel|>final<|message|>It is Italy.") == ANSWER


def test_marks_of_tokenizer_and_template() -> None:
    assert [marks.token for marks in marks_of({"</s>", "<seed:think>", "</seed:think>"}, "")] == ["<seed:think>"]
    assert [marks.token for marks in marks_of(set(), "{{ 'Here is my thought process:' }}")] == [
        "Here is my thought process:"
    ]
    (unknown,) = marks_of({"<|BEGIN_REASONING|>", "<|END_REASONING|>"}, "")
    text = "<|BEGIN_REASONING|>Spain?<|END_REASONING|>Italy"
    offsets = [(i, i + 1) for i in range(len(text))]
    assert text[count_reasoning_tokens("Q", text, offsets, [unknown]) :] == "Italy"
    assert marks_of({"<|thinking_on|>", "<unrelated>", "</unrelated>"}, "") == ()


def test_marks_of_a_model_are_those_of_its_chosen_template() -> None:
    templates = {"default": "{{ messages[0].content }}", "thinking": "{{ messages[0].content }}## Thinking\n"}
    model = model_with_template(templates)
    assert model.reasoning_marks == ()
    assert [m.token for m in model.with_template("thinking", None).reasoning_marks] == ["## Thinking\n"]


@pytest.mark.parametrize("marks", [marks for marks in MARKS if marks.closing], ids=lambda marks: marks.written[0])
def test_join_reasoning_writes_the_marks_of_the_model(marks: object) -> None:
    own_marks = [m for m in MARKS if m is marks]
    opening, closing = own_marks[0].written
    assert join_reasoning(" We think ", ANSWER, True, own_marks=own_marks) == f"{opening}We think{closing}{ANSWER}"
    assert join_reasoning("We think", "", False, own_marks=own_marks) == f"{opening}We think"
    assert final_answer(f"{opening}We think{closing}{ANSWER}") == ANSWER


def test_join_reasoning_does_not_repeat_the_mark_of_the_prompt() -> None:
    assert join_reasoning("x", "y", True, prompt="Q<think>\n") == "x\n</think>\n\ny"
    assert join_reasoning("x", "y", True, prompt="Q[THINK]") == "x[/THINK]y"
    assert join_reasoning(None, "y", True) == join_reasoning("", "y", True) == "y"


def test_retokenise_counts_marks_that_are_special_tokens_of_the_model() -> None:
    model = model_with_template("{{ messages[0].content }}", "<|muse|>", "<|thought_begin|>", "<|thought_end|>")
    text = "<|thought_begin|>Spain?<|thought_end|> Italy"
    (answer,) = retokenise(model, [(prompt_from_text(model, "Q"), TextAnswer("a", text))])
    assert (answer.text, answer.final.text) == (f" {text}", "Italy")
    assert answer.produced_ids[1] == model.tokenizer.convert_tokens_to_ids("<|thought_begin|>")
    assert tiny_model(byte_level_tokenizer()).reasoning_marks == ()
