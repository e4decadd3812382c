"""Which sites each family of models shows, and how exactly; ``python benchmarks/architectures.py``.

Random tiny models, built from their configurations in tests/families.py: nothing is downloaded.
"""

import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
transformers.logging.set_verbosity_error()

from families import FAMILIES, some_answers, tiny  # noqa: E402
from report import head, machine, row, write  # noqa: E402

from probemap.activations.attention import attention_received  # noqa: E402
from probemap.activations.forward import hidden_states  # noqa: E402
from probemap.activations.hooks import SITES  # noqa: E402
from probemap.models.model import Model  # noqa: E402
from probemap.positions import token_indices  # noqa: E402
from probemap.records import ModelError  # noqa: E402

NAMES = ("last_q", "first_answer", "-3", "-1")


def largest(difference: np.ndarray) -> str:
    return f"{np.nanmax(np.abs(difference)):.0e}"


def line(family: str) -> str:
    model = tiny(family)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), NAMES)
    states = {}
    for site in SITES:
        with suppress(ModelError):
            states[site] = hidden_states(model, answers, indices, site)
    shown = [f"{states[site].shape[-1]}" if site in states else "refused" for site in SITES]
    single = np.concatenate([hidden_states(model, [a], indices[i : i + 1]) for i, a in enumerate(answers)])
    adds = "-"
    if {"attn_out", "mlp_out"} <= set(states):
        parts = states["resid"][:, 0] + states["attn_out"][:, 1] + states["mlp_out"][:, 1]
        error = float(np.nanmax(np.abs(states["resid"][:, 1] - parts)))
        adds = f"{error:.0e}" if error < 1e-3 else "normed or scaled first"
    try:
        attention_received(model, answers, indices, [None] * len(answers))
        attention = "yes"
    except ModelError:
        attention = "refused"
    batch = largest(states["resid"] - single)
    return row(
        family, *shown, attention, own(model, answers, indices, single), batch, left(model, indices, single), adds
    )


def own(model: Model, answers: list, indices: np.ndarray, single: np.ndarray) -> str:
    """Largest difference from the model's own ``hidden_states``, the last layer aside, which it gives normed."""
    with torch.inference_mode():
        made = [
            model.network(torch.tensor([a.token_ids]), output_hidden_states=True).hidden_states[1:-1] for a in answers
        ]
    errors = [
        single[i, layer, column] - states[0, index].numpy()
        for i, layers in enumerate(made)
        for layer, states in enumerate(layers)
        for column, index in enumerate(indices[i])
        if index >= 0
    ]
    return largest(np.stack(errors))


def left(model: Model, indices: np.ndarray, single: np.ndarray) -> str:
    """Largest difference of the last token's states in a batch padded on the left, where generation pads."""
    answers = some_answers(model)
    width = max(len(a.token_ids) for a in answers)
    ids = torch.tensor([[1] * (width - len(a.token_ids)) + list(a.token_ids) for a in answers])
    mask = torch.tensor([[0] * (width - len(a.token_ids)) + [1] * len(a.token_ids) for a in answers])
    places = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if model.label not in ("bloom", "mamba") else {}
    with torch.inference_mode():
        made = model.network(ids, attention_mask=mask, output_hidden_states=True, **places).hidden_states[1:-1]
    return largest(np.stack([states[:, -1].numpy() for states in made], 1) - single[:, :-1, -1])


def main() -> None:
    lines = [
        "Random tiny models (three layers, width 32, nine answers of 6 to 40 tokens), float32.  A site: the width of "
        "its states, found by structure, or refused with a hint how to name the module.  Attention: whether the "
        "weights that a position receives can be read.  The rest are largest differences: of `resid` from the model's "
        "own hidden states; of a batch of nine from batches of one; of a batch padded on the left from batches of one, "
        "at the last token; and of a block's output from its input plus attention plus MLP.",
        "",
        machine().replace("scikit-learn", f"transformers {transformers.__version__}, scikit-learn"),
        "",
        *head("family", *SITES, "attention", "own states", "batch 9 or 1", "left padding", "input + attention + MLP"),
        *(line(family) for family in FAMILIES),
    ]
    write("architectures", lines)


if __name__ == "__main__":
    main()
