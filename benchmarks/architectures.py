"""Measure which hook points each model family has and how exact its states are: ``python benchmarks/architectures.py``.

Writes ``benchmarks/results/architectures.md``.  The models are tiny and random, built from the configurations in
tests/families.py; nothing is downloaded.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
transformers.logging.set_verbosity_error()

from families import FAMILIES, some_answers, tiny  # noqa: E402
from report import machine, row, table_head, write  # noqa: E402

from probemap.activations.attention import attention_received  # noqa: E402
from probemap.activations.layout import States  # noqa: E402
from probemap.models.forward import hidden_states  # noqa: E402
from probemap.models.hooks import SITES  # noqa: E402
from probemap.models.model import Model  # noqa: E402
from probemap.positions import Indices, token_indices  # noqa: E402
from probemap.records import Answer, ModelError  # noqa: E402

POSITIONS = ("last_q", "first_answer", "-3", "-1")
MAX_SUM_ERROR = 1e-3
"""A larger difference between a block's output and the sum of its parts means that the block rescales a part."""


def largest(difference: States) -> str:
    return f"{np.nanmax(np.abs(difference)):.0e}"


def family_row(family: str) -> str:
    model = tiny(family)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), POSITIONS)
    states: dict[str, States] = {}
    for site in SITES:
        with suppress(ModelError):
            states[site] = hidden_states(model, answers, indices, site)
    widths = [f"{states[site].shape[-1]}" if site in states else "refused" for site in SITES]
    single = np.concatenate([hidden_states(model, [a], indices[i : i + 1]) for i, a in enumerate(answers)])
    try:
        attention_received(model, answers, indices, [None] * len(answers))
        attention = "yes"
    except ModelError:
        attention = "refused"
    return row(
        family,
        *widths,
        attention,
        difference_from_output(model, answers, indices, single),
        largest(states["resid"] - single),
        difference_with_left_padding(model, answers, single),
        difference_from_sum(states),
    )


def difference_from_sum(states: dict[str, States]) -> str:
    """Return the difference of block 1's output from its input plus the outputs of attention and MLP."""
    if not {"attn_out", "mlp_out"} <= set(states):
        return "-"
    expected = states["resid"][:, 0] + states["attn_out"][:, 1] + states["mlp_out"][:, 1]
    error = float(np.nanmax(np.abs(states["resid"][:, 1] - expected)))
    return f"{error:.0e}" if error < MAX_SUM_ERROR else "normalised or scaled first"


def difference_from_output(model: Model, answers: Sequence[Answer], indices: Indices, single: States) -> str:
    """Return the largest difference of `single` from the model's ``hidden_states``.

    The last layer is excluded: the model returns it after the final normalisation.
    """
    with torch.inference_mode():
        outputs = [
            model.network(torch.tensor([a.token_ids]), output_hidden_states=True).hidden_states[1:-1] for a in answers
        ]
    errors = [
        single[i, layer, column] - states[0, index].numpy()
        for i, layers in enumerate(outputs)
        for layer, states in enumerate(layers)
        for column, index in enumerate(indices[i])
        if index >= 0
    ]
    return largest(np.stack(errors))


def difference_with_left_padding(model: Model, answers: Sequence[Answer], single: States) -> str:
    """Return the largest difference of the last token's states in a batch padded on the left, as for generation."""
    width = max(len(a.token_ids) for a in answers)
    ids = torch.tensor([[1] * (width - len(a.token_ids)) + list(a.token_ids) for a in answers])
    mask = torch.tensor([[0] * (width - len(a.token_ids)) + [1] * len(a.token_ids) for a in answers])
    # These two families do not take position ids.
    options = {} if model.label in ("bloom", "mamba") else {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    with torch.inference_mode():
        outputs = model.network(ids, attention_mask=mask, output_hidden_states=True, **options).hidden_states[1:-1]
    return largest(np.stack([states[:, -1].numpy() for states in outputs], 1) - single[:, :-1, -1])


def main() -> None:
    lines = [
        "# Model families",
        "",
        "Random tiny models (three layers, width 32, nine answers of 6 to 40 tokens), float32.  Columns `resid` to "
        "`mlp_hidden`: the width of the states at the hook point, which is identified from the structure of the model, "
        "or `refused` if it cannot be identified; the error then names the option that selects the module.  "
        "`attention`: whether the attention weights that a position receives can be read.  The other columns are "
        "largest absolute differences: of `resid` from the model's `hidden_states`; of a batch of nine from batches of "
        "one; of a batch padded on the left from batches of one, at the last token; and of a block's output from the "
        "sum of its input, attention and MLP.",
        "",
        machine().replace("scikit-learn", f"transformers {transformers.__version__}, scikit-learn"),
        "",
        *table_head("family", *SITES, "attention", "`hidden_states`", "batch of 9", "left padding", "sum of parts"),
        *(family_row(family) for family in FAMILIES),
    ]
    write("architectures", lines)


if __name__ == "__main__":
    main()
