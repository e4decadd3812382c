# %% [markdown]
# # Your arrays
#
# `fit_map` needs hidden states and labels, wherever they come from: another library, a model that is not a
# transformer, or a simulation. This tutorial plants a signal, so that the true answer is known.
#
# ## States and labels
#
# The states are one array of shape (answers, layers, positions, hidden size). Labels are true, false, or `None` for
# undecided.

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
# The map finds the planted cell. For two normal distributions with a distance of δ standard deviations, the AUC of
# the best linear probe is Φ(δ / √2), which is 0.87 for δ = 1.6. A fitted probe stays a little below that, because it
# has to learn the direction from a few hundred answers.

# %%
from scipy.stats import norm

best = probe_map.best()[0]
print(f"layer {best.layer} at {best.position}: {best.auc:.2f} ({best.low:.2f} to {best.high:.2f})")
print(f"truth: {norm.cdf(1.6 / np.sqrt(2)):.2f}")

# %% [markdown]
# ## Missing positions and undecided answers
#
# NaN means that an answer lacks a position. Undecided answers are left out. Both lower the number `n` below a column;
# no other token takes the place of a missing one.

# %%
states[::5, :, 1] = np.nan  # every fifth answer has no exact answer
labels = [None if i % 10 == 3 else bool(label) for i, label in enumerate(correct)]
probe_map = probemap.fit_map(states, labels, positions=positions)
print(dict(zip(probe_map.positions, probe_map.data["n"].values.tolist(), strict=True)))

# %% [markdown]
# ## Groups
#
# Several answers to one question are not independent: a probe can recognise the question. `groups` keeps all answers
# to one question in the same fold. Here most of the state is the topic of the question, and a question's answers are
# mostly all correct or all incorrect:

# %%
question = np.arange(400) // 4  # four answers per question
answerable = rng.random(100) < 0.45
is_correct = answerable[question] ^ (rng.random(400) < 0.1)
topic = rng.normal(size=(100, d))[question] + 0.3 * rng.normal(size=(400, d))
topic[is_correct, 0] += 0.8

for name, groups in (("answers apart", None), ("grouped by question", question)):
    cell = probemap.fit_map(topic[:, None, None], is_correct, positions=["-1"], groups=groups).best()[0]
    print(f"{name}: {cell.auc:.2f} ({cell.low:.2f} to {cell.high:.2f})")

# %% [markdown]
# Without groups, the probe is evaluated on questions that it was fitted on, and its AUC is too high.
#
# ## What noise looks like
#
# The same states with shuffled labels. Some cell is always the highest, and its own interval may exclude 0.5. The
# simultaneous band and the nested-CV estimate are not fooled.

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
# Any scikit-learn classifier with a `decision_function` can be the probe. `c` sets the inverse strength of the
# penalty of the built-in logistic regression; with `"auto"` each fold chooses it by cross-validation within its
# training answers.

# %%
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

lda = probemap.fit_map(states, labels, positions=positions, probe=LinearDiscriminantAnalysis())
auto = probemap.fit_map(states, labels, positions=positions, c="auto")
for name, m in (("logistic, C = 1", probe_map), ("logistic, C chosen", auto), ("discriminant analysis", lda)):
    print(f"{name}: {m.cell(4, 'exact_answer_last').auc:.3f}")

# %% [markdown]
# Next: [comparing maps](4_comparing_maps.py).
