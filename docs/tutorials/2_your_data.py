# %% [markdown]
# # Your data
#
# Questions can be read from a file, loaded from a published data set, or made in Python. This tutorial also shows how
# to change the prompt and how to define a grader, a locator and a position.
#
# ## Questions from a file
#
# A JSONL, CSV or Parquet file has one row per question, with the fields `question` and `answers`, and optionally `id`,
# `choices` and `context`. All further fields with a text, a number or a truth value, e.g. a popularity or a relation,
# are kept with the question: `probemap map` can [use them](../reading.md#covariates-and-groups) as groups and
# covariates. In a CSV file, a column is numeric if all of its values are numbers.

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
# The kind of each row is inferred, or set for all rows with `kind=` (on the command line, `probemap answer --kind`). A
# file may contain rows of several kinds. Here every accepted answer is a number, so the kind is `numbers`. The kind
# determines the rules for grading answers and for locating exact answers:
#
# | kind | an answer is correct if | its exact answer is |
# | --- | --- | --- |
# | `numbers` (all accepted answers are numbers) | the number that it gives as its result is accepted | that number |
# | `names` (few distinct answers, or rows with `choices`) | the name that it asserts is accepted | that name |
# | `choices` (lettered choices) | the letter or the words of its choice are accepted | that letter or these words |
# | `open` (all others) | it asserts an accepted answer | the name, value or noun phrase that it adds to the question |
#
# Names match regardless of case, accents, punctuation and spaces ("J. K. Rowling" and "JK Rowling"), and numbers,
# quantities and dates match as values ("50 %" and "fifty percent"). A mention does not count if the text negates,
# rejects or corrects it ("It is not Lyon but Paris"). Texts that assert nothing, decline to answer, or name several
# alternatives are undecided.
#
# The rules find the exact answers to open questions less reliably than those to the other kinds. On the command line,
# the model that answered therefore also chooses the exact answers in a sample of the texts. If the model and the rules
# often differ, the exact answers are not used.
#
# Published data sets are loaded by name, for example with `probemap.load_task("triviaqa", n=1000)`. Their rows come
# from the Hugging Face hub, or from a file with the same rows (`"triviaqa:rows.jsonl"`). `probemap list tasks` lists
# the names.
#
# ## Change the prompt
#
# A task is immutable; `dataclasses.replace` returns a changed copy.

# %%
from dataclasses import replace

task = replace(task, prompt="{question} Answer with the number only.", max_new_tokens=16)
model = probemap.load_model("smollm2-135m")
answers = probemap.ask(model, task)
print(answers[0].prompt)
print([answer.text for answer in answers[:8]])

# %% [markdown]
# ## Define a grader and a locator
#
# A grader takes an `Example` (a question with its accepted answers) and the text of an answer, and returns a `Verdict`,
# in which `None` means undecided. A locator takes the question and the text and returns `(start, stop)` so that
# `text[start:stop]` is the exact answer, or `None` if there is none.

# %%
import re

from probemap import Example, Verdict


def last_number(text: str) -> re.Match[str] | None:
    """Return the last number in the first line."""
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
# ## Define a position
#
# A position is a rule that returns the index of a token, or `None` if the answer has no such token. New rules can be
# combined with the names of built-in positions.


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
# By default, `capture` reads the residual stream after each block. `site="attn_out"` reads the output of the attention
# layer instead, `"heads"` the outputs of all attention heads, `"mlp_out"` the output of the MLP, and `"mlp_hidden"` the
# hidden units of the MLP.

# %%
mlp = probemap.capture(model, answers, spans, positions=["exact_answer_last", "-1"], site="mlp_out")
mlp

# %% [markdown]
# Next: [hidden states and labels from any source](3_your_arrays.py).
