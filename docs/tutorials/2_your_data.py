# %% [markdown]
# # Your data
#
# Questions come from a file, from a published data set, or from Python. This tutorial also replaces the grader, the
# locator, the prompt and a position by functions of your own.
#
# ## Questions from a file
#
# One row per question, as JSONL, CSV or Parquet, with `question` and `answers`, and optionally `id`, `choices` and
# `context`:

# %%
import json
from pathlib import Path

import probemap

rows = [
    {"id": f"{a}+{b}", "question": f"What is {a} + {b}?", "answers": [str(a + b)]}
    for a in range(2, 22, 2)
    for b in range(3, 15, 2)
]
Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

task = probemap.load_task("sums.jsonl")
print(task.name, task.kind, len(task.examples))
task.examples[0]

# %% [markdown]
# The kind of the task follows from all rows: every accepted answer is a number, so the kind is `numbers`. It selects
# the rules for grading and locating:
#
# | kind | correct if | exact answer |
# | --- | --- | --- |
# | `numbers` | the result in the text is an accepted number | that number |
# | `names` (few distinct answers, or rows with `choices`) | the name that the text asserts is accepted | that name |
# | `choices` | the letter or the words of the choice are accepted | the letter or words |
# | `open` | the text contains an accepted answer that is not negated | none by rule: use your own locator, or a model |
#
# Published data sets load by name, such as `probemap.load_task("triviaqa", n=1000)`, from the hub, or from a file
# with the same rows (`"triviaqa:rows.jsonl"`). `probemap list tasks` lists them.
#
# ## Your own prompt
#
# A task is an immutable value. `dataclasses.replace` returns a changed copy.

# %%
from dataclasses import replace

task = replace(task, prompt="{question} Answer with the number only.", max_new_tokens=16)
model = probemap.load_model("smollm2-135m")
answers = probemap.ask(model, task)
print(answers[0].prompt)
print([answer.text for answer in answers[:8]])

# %% [markdown]
# ## Your own grader and locator
#
# A grader is a function of the question and the text of the answer. `None` as verdict means undecided. A locator is a
# function of the question and the text that returns the characters (start, stop) of the exact answer, or `None`.

# %%
import re

from probemap import Example, Verdict


def last_number(text: str) -> re.Match[str] | None:
    """The last number in the first line."""
    numbers = list(re.finditer(r"\d+", text.split("\n")[0]))
    return numbers[-1] if numbers else None


def close_enough(example: Example, text: str) -> Verdict:
    """Accept answers that are off by at most one."""
    number = last_number(text)
    if number is None:
        return Verdict(None, "no number")
    return Verdict(abs(int(number[0]) - int(example.answers[0])) <= 1, f"the last number is {number[0]}")


def locate_last_number(question: str, text: str) -> tuple[int, int] | None:
    number = last_number(text)
    return number.span() if number else None


verdicts = probemap.grade(task, answers, grader=close_enough)
spans = probemap.locate(task, answers, locator=locate_last_number)
print({correct: sum(v.correct is correct for v in verdicts) for correct in (True, False, None)})
print(verdicts[0], spans[0])

# %% [markdown]
# ## Your own position
#
# A position is a rule that returns the index of a token, or `None` if the answer has no such token. Names of built-in
# positions can be mixed with your own rules.


# %%
def middle_of_question(answer: probemap.Answer, span: probemap.Span | None) -> int | None:
    return answer.n_prompt // 2


activations = probemap.capture(
    model,
    answers,
    spans,
    positions={
        "middle_of_question": middle_of_question,
        "last_q": "last_q",
        "exact_answer_first": "exact_answer_first",
        "exact_answer_last": "exact_answer_last",
        "-1": "-1",
    },
)
probemap.fit_map(activations, verdicts).plot()

# %% [markdown]
# ## Other sites
#
# By default the residual stream after each block is captured. `site="attn_out"` captures the output of the attention,
# `"heads"` the outputs of all attention heads, `"mlp_out"` that of the MLP, and `"mlp_hidden"` the hidden units of
# the MLP.

# %%
mlp = probemap.capture(model, answers, spans, positions=["exact_answer_last", "-1"], site="mlp_out")
mlp

# %% [markdown]
# Next: [hidden states and labels from any source](3_your_arrays.py).
