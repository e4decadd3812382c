"""The script of a careful user, for ``end_to_end.py``: ``python way_careful.py MODEL PROMPTS DEVICE DTYPE``.

Prompts of similar length are answered in batches of 32.  One pass with forward hooks keeps the states of the last
tokens.  scikit-learn fits the probes of all cells in five folds, with joblib on all cores.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM, AutoTokenizer

N_POSITIONS = 15
LAST_TOKENS = 12
BATCH_SIZE = 32

folder, file, device, dtype = sys.argv[1:]
rows = sorted(map(json.loads, Path(file).read_text().splitlines()), key=lambda row: len(row["prompt_ids"]))
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")


def padded(sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask of a batch, padded on the left."""
    batch = tokenizer.pad({"input_ids": sequences}, return_tensors="pt").to(device)
    lengths = torch.tensor([len(ids) for ids in sequences], device=device)[:, None]
    columns = torch.arange(batch["input_ids"].shape[1], device=device)
    return batch["input_ids"], (columns >= len(columns) - lengths).long()


def aucs(features: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> float:
    warnings.filterwarnings("ignore")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(
        roc_auc_score(labels, cross_val_predict(probe, features, labels, cv=folds, method="decision_function"))
    )


started = time.perf_counter()
answers = []
with torch.inference_mode():
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows[start : start + BATCH_SIZE]
        ids, mask = padded([row["prompt_ids"] for row in batch])
        limit = max(row["max_new_tokens"] for row in batch)
        generated = model.generate(ids, attention_mask=mask, max_new_tokens=limit, do_sample=False)[:, ids.shape[1] :]
        for row, new_ids in zip(batch, generated.tolist(), strict=True):
            stops = [i for i, token_id in enumerate(new_ids) if token_id == tokenizer.eos_token_id]
            answers.append(row["prompt_ids"] + new_ids[: stops[0] + 1 if stops else None])
    answered = time.perf_counter()
    blocks = model.base_model.layers
    recorded: dict[int, npt.NDArray[np.float32]] = {}

    def keep(number: int) -> Callable[..., None]:
        def hook(module: object, inputs: object, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            recorded[number] = hidden[:, -LAST_TOKENS:].float().cpu().numpy()

        return hook

    handles = [block.register_forward_hook(keep(number)) for number, block in enumerate(blocks)]
    states = []
    for start in range(0, len(rows), BATCH_SIZE):
        ids, mask = padded(answers[start : start + BATCH_SIZE])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        states.append(np.stack([recorded[number] for number in range(len(blocks))], axis=1))
captured = time.perf_counter()
data = np.concatenate(states)
labels = np.array([row["correct"] for row in rows])
cells = [(layer, -1 - position % LAST_TOKENS) for layer in range(data.shape[1]) for position in range(N_POSITIONS)]
joblib.Parallel(n_jobs=-1)(
    joblib.delayed(aucs)(np.ascontiguousarray(data[:, layer, token]), labels) for layer, token in cells
)
fitted = time.perf_counter()
seconds = {"answers": answered - started, "states": captured - answered, "probes": fitted - captured}
print(json.dumps(seconds | {"total": fitted - started}))
