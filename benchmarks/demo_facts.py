"""What the demo shows, in numbers: ``python benchmarks/demo_facts.py demo``.

Exact-answer columns against trailing ones; the map under shuffled labels; whether the exact answers' tokens decode to
them.
"""

import sys

import numpy as np

from probemap.activations import ActivationStore
from probemap.contents import read_answers, read_map
from probemap.map import fit_map
from probemap.model import load_model
from probemap.run import Run


def main(folder: str) -> None:
    run = Run.open(folder)
    _, answers, judgements = read_answers(run)
    made = read_map(run)
    exact = [p for p in made.positions if p in ("exact_answer_first", "exact_answer_last", "exact_answer_after_last")]
    trailing = [p for p in made.positions if p.startswith("-")]
    for name, columns in (("exact-answer", exact), ("trailing", trailing), ("last_q", ["last_q"])):
        values = made.auc.sel(position=columns).values
        print(f"{name:<13} mean {np.nanmean(values):.3f}, highest {np.nanmax(values):.3f}  ({', '.join(columns)})")
    best = made.best()[0]
    print(f"highest cell  {best}")

    tokenizer = load_model(run.step("answer")["options"]["model"]).tokenizer
    located = [(a, j.span) for a, j in zip(answers, judgements, strict=True) if j.span]
    whole = sum(
        s.text in tokenizer.decode(a.token_ids[s.start : s.stop], clean_up_tokenization_spaces=False)
        for a, s in located
    )
    print(f"exact answers whose tokens decode to them: {whole} of {len(located)}")

    verdicts = [j.verdict.correct for j in judgements]
    decided = [i for i, v in enumerate(verdicts) if v is not None]
    store = ActivationStore.open(run.path / "activations")
    for seed in range(3):
        shuffled = list(verdicts)
        order = np.random.default_rng(seed).permutation(decided)
        for i, other in zip(decided, order, strict=True):
            shuffled[i] = verdicts[other]
        noise = fit_map(store, shuffled).auc.values
        print(f"shuffled labels {seed}: mean {noise.mean():.3f}, from {noise.min():.3f} to {noise.max():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
