# %% [markdown]
# # Your model and questions
#
# This tutorial makes a map step by step: a model answers questions, the answers are graded, hidden states are
# captured, and one probe is fitted to each (layer, position) cell. Each step is one function on values. `probemap
# run` does the same on the command line and keeps the results in a directory.
#
# The model is SmolLM2-135M-Instruct, which runs on a laptop. Replace `"smollm2-135m"` by any causal language model on
# the Hugging Face hub, a local directory, or a `.gguf` file.

# %%
import probemap

model = probemap.load_model("smollm2-135m")
task = probemap.load_task("cities", n=60)
task.examples[0]

# %% [markdown]
# A task is a list of questions with their accepted answers. 60 questions keep this page fast; a map that you want to
# rely on needs several hundred.
#
# ## The model answers
#
# An `Answer` keeps the exact token ids that the model saw and produced, with their log-probabilities.

# %%
answers = probemap.ask(model, task)
for answer in answers[:3]:
    print(f"{answer.id}: {answer.text!r}, {len(answer.produced_ids)} tokens")

# %% [markdown]
# ## Grade, and locate the exact answer
#
# `grade` decides whether each answer is correct, incorrect, or undecided (`None`). Undecided answers are excluded and
# counted, never guessed. `locate` finds the tokens that answer the question. It sees the question and the text, not
# the accepted answers, so that the probed token does not depend on the label.

# %%
verdicts = probemap.grade(task, answers)
spans = probemap.locate(task, answers)
for answer, verdict, span in list(zip(answers, verdicts, spans, strict=True))[:6]:
    print(f"{verdict.correct!s:6}{span.text if span else None!s:16}{answer.text!r}")

n_correct = sum(verdict.correct is True for verdict in verdicts)
n_incorrect = sum(verdict.correct is False for verdict in verdicts)
print(f"{n_correct} correct, {n_incorrect} incorrect, {len(verdicts) - n_correct - n_incorrect} undecided")

# %% [markdown]
# Look at some answers before you go on. Labels are usually the weakest part of a map.
#
# ## Capture hidden states
#
# `capture` runs the model once over each prompt with its answer and keeps the hidden states of every layer at the
# named positions. `exact_answer_last` is the last token of the exact answer, `-1` the last token that the model
# produced, usually the end token. An answer that lacks a position has NaN there.

# %%
positions = ["last_q", "exact_answer_first", "exact_answer_last", "exact_answer_after_last", "-2", "-1"]
activations = probemap.capture(model, answers, spans, positions=positions)
activations

# %% [markdown]
# ## The map
#
# `fit_map` fits a logistic regression to each cell. Each answer is scored by a probe that was fitted without it, and
# the value of a cell is the AUC of these scores: the probability that a correct answer has a higher score than an
# incorrect one. 0.5 is chance.

# %%
probe_map = probemap.fit_map(activations, verdicts)
probe_map.plot()

# %% [markdown]
# Dark cells encode whether the answer is correct. With so few answers the intervals are wide, and the highest cell is
# high partly by luck. The nested-CV estimate accounts for that: it chooses the cell on some answers and evaluates it
# on others.

# %%
best = probe_map.best()[0]
print(f"highest cell: layer {best.layer} at {best.position}, AUC {best.auc:.2f} ({best.low:.2f} to {best.high:.2f})")
nested = probe_map.nested_best()
print(f"nested-CV estimate: {nested.auc:.2f} ({nested.low:.2f} to {nested.high:.2f})")
print(f"better than chance, all cells considered at once: {int(probe_map.above_chance.sum())} of {probe_map.auc.size}")
print(f"not distinguishable from the best cell: {int(probe_map.confidence_set().sum())} of {probe_map.auc.size}")

# %% [markdown]
# [How to read a map](../reading.md) explains each of these numbers.
#
# ## Keep it
#
# A map is one netCDF file, which other programs can read as well. A report is one HTML file with the curves, the ROC
# curves and the values of all cells.

# %%
probe_map.save("map.nc")
probe_map.plot(size="page").save("map.svg")
probe_map.report("report.html")
probemap.ProbeMap.load("map.nc").to_frame().head()

# %% [markdown]
# On the command line, with all fifteen positions and the baselines as well:
#
# ```sh
# probemap run cities --model smollm2-135m --n 60 --out RUN
# probemap report RUN
# ```
#
# Next: [your own data](2_your_data.py).
