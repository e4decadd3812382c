# %% [markdown]
# # Your arrays
#
# `fit_map` needs only hidden states and labels. They can come from another library, from a model that is not a
# transformer, or, as in this tutorial, from a simulation with a planted signal, so that the true AUC is known.
#
# ## States and labels
#
# The states are an array of shape (answers, layers, positions, hidden size). Each label is true (correct), false
# (incorrect) or `None` (undecided).

# %%
import numpy as np

import probemap

rng = np.random.default_rng(0)
n, n_layers, d = 800, 8, 16
positions = ["last_q", "exact_answer_last", "-1"]

correct = rng.random(n) < 0.45
states = rng.normal(size=(n, n_layers, len(positions), d)).astype(np.float32)
for layer in range(n_layers):
    signal = 1.6 * np.exp(-((layer - 4) ** 2) / 4)  # strongest in layer 4
    states[correct, layer, 1, 0] += signal
    states[correct, layer, 2, 0] += 0.5 * signal

probe_map = probemap.fit_map(states, correct, positions=positions)
probe_map.plot()

# %% [markdown]
# The highest cell is the planted one. For two normal distributions whose means differ by δ standard deviations, the AUC
# of the best linear probe is Φ(δ / √2), which is 0.87 for δ = 1.6. The AUC of a fitted probe is slightly lower, because
# the probe learns the direction from a few hundred answers.

# %%
from scipy.stats import norm

best = probe_map.best()[0]
print(f"layer {best.layer} at {best.position}: {best.auc:.2f} ({best.low:.2f} to {best.high:.2f})")
print(f"truth: {norm.cdf(1.6 / np.sqrt(2)):.2f}")

# %% [markdown]
# ## Missing positions and undecided answers
#
# If an answer lacks a position, its states there are NaN, and the answer is excluded from that column. Undecided
# answers are excluded from all columns. `n` is the number of remaining answers in a column.

# %%
states[::5, :, 1] = np.nan  # every fifth answer has no exact answer
labels = [None if i % 10 == 3 else bool(label) for i, label in enumerate(correct)]
probe_map = probemap.fit_map(states, labels, positions=positions)
print(dict(zip(probe_map.positions, probe_map.data["n"].values.tolist(), strict=True)))

# %% [markdown]
# ## Groups
#
# Several answers to the same question are not independent, because a probe can recognise the question. With `groups`,
# all answers to one question are in the same fold. In this example, the states mainly encode the topic of the question,
# and the answers to a question tend to be all correct or all incorrect:

# %%
question = np.arange(400) // 4  # four answers per question
answerable = rng.random(100) < 0.45
is_correct = answerable[question] ^ (rng.random(400) < 0.1)
topic = rng.normal(size=(100, d))[question] + 0.3 * rng.normal(size=(400, d))
topic[is_correct, 0] += 0.8

for name, groups in (("not grouped", None), ("grouped by question", question)):
    cell = probemap.fit_map(topic[:, None, None], is_correct, positions=["-1"], groups=groups).best()[0]
    print(f"{name}: {cell.auc:.2f} ({cell.low:.2f} to {cell.high:.2f})")

# %% [markdown]
# Without groups, the probe is evaluated on questions that it was fitted to, and its AUC is too high.
#
# ## What noise looks like
#
# If the labels are shuffled, the states contain no signal. Some cell is still the highest, and its own interval may
# exclude 0.5. The simultaneous band and the nested-CV estimate take the choice of that cell into account.

# %%
noise = probemap.fit_map(states, rng.permutation(correct), positions=positions)
best, nested = noise.best()[0], noise.nested_best()
print(f"highest cell: {best.auc:.2f} ({best.low:.2f} to {best.high:.2f})")
print(f"nested-CV estimate: {nested.auc:.2f} ({nested.low:.2f} to {nested.high:.2f})")
print(f"better than chance: {int(noise.above_chance.sum())} of {noise.auc.size} cells")
noise.plot()

# %% [markdown]
# ## Other probes
#
# Any scikit-learn classifier with a `decision_function` can be used as the probe. For the built-in logistic regression,
# `c` sets the inverse strength of the penalty; with `c="auto"`, each fold chooses it by cross-validation within its
# training answers.

# %%
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

lda = probemap.fit_map(states, labels, positions=positions, probe=LinearDiscriminantAnalysis())
auto = probemap.fit_map(states, labels, positions=positions, c="auto")
for name, m in (("logistic, C = 1", probe_map), ("logistic, C chosen", auto), ("discriminant analysis", lda)):
    print(f"{name}: {m.cell(4, 'exact_answer_last').auc:.3f}")

# %% [markdown]
# Next: [comparing maps](4_comparing_maps.py).
