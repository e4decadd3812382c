"""The procedure of the research code, for ``end_to_end.py``: ``python way_research.py MODEL PROMPTS DEVICE DTYPE``.

One prompt per call of `generate`.  Two passes over each answer keep the hidden states of all layers and tokens: one
to locate the exact answer, one to probe it.  scikit-learn fits one probe per cell on 80 % of the answers.  Written from
the description in the paper.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from transformers import AutoModelForCausalLM

N_POSITIONS = 15
LAST_TOKENS = 12

warnings.filterwarnings("ignore")  # probes that do not converge within the default number of iterations
folder, file, device, dtype = sys.argv[1:]
rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()

started = time.perf_counter()
answers = []
with torch.inference_mode():
    for row in rows:
        ids = torch.tensor([row["prompt_ids"]], device=device)
        answers.append(
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=row["max_new_tokens"],
                do_sample=False,
                output_scores=True,
                return_dict_in_generate=True,
            ).sequences
        )
    answered = time.perf_counter()
    for _ in range(2):
        states = [
            torch.stack(model(ids, output_hidden_states=True).hidden_states[1:])[:, 0].float().cpu().numpy()
            for ids in answers
        ]
captured = time.perf_counter()
labels = np.array([row["correct"] for row in rows])
for layer in range(len(states[0])):
    for position in range(N_POSITIONS):
        features = np.stack([state[layer, -1 - position % LAST_TOKENS] for state in states])
        x_train, x_test, y_train, y_test = train_test_split(features, labels, test_size=0.2, random_state=0)
        LogisticRegression().fit(x_train, y_train).score(x_test, y_test)
fitted = time.perf_counter()
seconds = {"answers": answered - started, "states": captured - answered, "probes": fitted - captured}
print(json.dumps(seconds | {"total": fitted - started}))
