# %% [markdown]
# # Comparing maps
#
# Two maps of the same answers are affected by the same sampling error. Their difference is therefore more certain than
# two overlapping intervals suggest. This tutorial compares two sites, two cells, and a map with its baselines.

# %%
import probemap

model = probemap.load_model("smollm2-135m")
task = probemap.load_task("cities", n=60)
answers = probemap.ask(model, task)
verdicts = probemap.grade(task, answers)
spans = probemap.locate(task, answers)

positions = ["last_q", "exact_answer_first", "exact_answer_last", "-2", "-1"]
ids = [answer.id for answer in answers]


def map_of(site: str) -> probemap.ProbeMap:
    activations = probemap.capture(model, answers, spans, positions=positions, site=site)
    return probemap.fit_map(activations, verdicts, attrs={"site": site, "model": model.label, "task": task.name})


residual, mlp = map_of("resid"), map_of("mlp_out")
probemap.plot_maps([residual, mlp], titles=["residual stream", "MLP output"])

# %% [markdown]
# ## The difference of two maps
#
# `difference` returns the difference of each cell with a 95 % interval and with a band that covers all cells at once.

# %%
difference = mlp.difference(residual)
beyond_zero = (difference.band_low > 0) | (difference.band_high < 0)
print(f"{int(beyond_zero.sum())} of {difference.difference.size} cells differ, by the band over all cells")
probemap.plot_difference(mlp, residual)

# %% [markdown]
# In pale cells, the interval contains 0. With 60 answers, most differences are no larger than the noise.
#
# The method `ProbeMap.difference` accepts only maps of the same answers with the same labels. For maps of different
# models or questions, the function `probemap.difference` evaluates each map on its own answers. Its intervals are
# wider, and the answers may differ in difficulty.
#
# ## Two cells of one map
#
# Decide which cells to compare before you look at the map, because the interval is valid for a planned comparison.

# %%
gap = residual.compare((20, "exact_answer_last"), (20, "last_q"))
print(f"exact_answer_last minus last_q, layer 20: {gap.value:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})")

# %% [markdown]
# ## Curves
#
# `plot_curves` draws the AUC of each position along the layers, with intervals:

# %%
probemap.plot_curves(residual.only(["last_q", "exact_answer_last"]))

# %% [markdown]
# ## Comparison with baselines
#
# Some answers are correct more often than others. A probe that only recognises which country was named can therefore
# separate correct from incorrect answers, even if the states contain nothing about their correctness. Baselines measure
# how much can be predicted without hidden states, from log-probabilities, from lengths, and from the words of question
# and answer. `gain` is the AUC of a cell minus that of the best baseline of its column, on the same answers.

# %%
judgements = [probemap.Judgement(*row) for row in zip(ids, verdicts, spans, strict=True)]
baselines = probemap.compute_baselines(task, answers, judgements)
with_gain = probemap.with_baselines(residual, baselines, ids)
with_gain.plot(value="gain")

# %%
for name, column in (
    with_gain.data["baseline_auc"].sel(position="exact_answer_last").to_series().dropna().sort_values().items()
):
    print(f"{name:24}{column:.2f}")

# %% [markdown]
# On the command line, `probemap plot RUN OTHER-RUN --kind difference` draws the difference of two runs, and `probemap
# report RUN OTHER-RUN` writes a report with both maps side by side.
#
# Next: [a detector](5_detector.py).
