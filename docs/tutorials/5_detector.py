# %% [markdown]
# # A detector
#
# A detector estimates the probability that a new answer is correct. It uses the probe of one cell, whose scores are
# calibrated, and it is evaluated on answers that were not used to choose the cell.
#
# ## Fit
#
# At least 20 correct and 20 incorrect answers are held out for the evaluation, so a detector needs more answers than a
# map. This tutorial uses arithmetic questions, because their answers are short and quickly generated.

# %%
from dataclasses import replace

import probemap

model = probemap.load_model("smollm2-135m")
task = probemap.load_task("arithmetic", n=240)
task = replace(task, prompt="{question} Answer with the number only.", max_new_tokens=12)
answers = probemap.ask(model, task)
verdicts = probemap.grade(task, answers)
activations = probemap.capture(
    model, answers, probemap.locate(task, answers), positions=["last_q", "exact_answer_last", "-1"]
)

# %% [markdown]
# The provenance records the model, the prompt, the site and the locator that the detector was fitted with. Without
# provenance, a detector can score states, but not texts.

# %%
provenance = probemap.Provenance.of(model, task, name="smollm2-135m")
detector = probemap.fit_detector(activations, verdicts, held_out=0.5, provenance=provenance)
print(detector.primary.location)
detector.primary.evaluation

# %% [markdown]
# The evaluation on the held-out answers contains the AUC with its interval, the Brier score, and the calibration error.
# `calibration_noise` is the calibration error that exact probabilities would have on the same number of answers. With
# so few answers, the interval is wide.
#
# The primary head is the probe of the chosen cell. Answers that lack its position, for example because they contain no
# exact answer, are scored by a fallback head, which is calibrated on such answers.
#
# ## Save and load
#
# A detector is saved as a directory with its numbers (safetensors), a `config.json` with a checksum, and a model card.
# Loading it executes no code. `load_scorer` loads the detector together with its model, and rejects a model with
# different weights or a different chat template.

# %%
detector.save("DETECTOR")
scorer = probemap.load_scorer("DETECTOR", model=model)

# %% [markdown]
# ## Score answers
#
# `score_text` scores an existing answer:

# %%
scorer.score_text("What is 17 + 25?", "42")

# %% [markdown]
# `generate` lets the model answer and scores the answers during generation, without a second forward pass:

# %%
for result in scorer.generate(["What is 3 + 4?", "What is 38 + 47?"]):
    print(f"{result.answer.text!r}: {result.score.p_correct:.2f}, flagged: {result.score.flagged}")

# %% [markdown]
# ## A server
#
# `probemap serve` starts a server with an OpenAI-compatible API, which adds the score to every choice. [Serving a
# detector](../serving.md) describes all requests. On the command line:
#
# ```sh
# pip install 'probemap[serve]'
# probemap serve DETECTOR --port 8080
# ```
#
# From a notebook, start it in a separate process:

# %%
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

serve = [sys.executable, "-m", "probemap.cli.main", "serve", "DETECTOR", "--port", "8765"]
server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def post(path: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:8765{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    for _ in range(300):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.URLError:
            time.sleep(1)  # the model is being loaded
    raise TimeoutError


post("/v1/score", {"question": "What is 17 + 25?", "answer": "42"})

# %%
question = {"messages": [{"role": "user", "content": "What is 3 + 4? Answer with the number only."}], "max_tokens": 12}
post("/v1/chat/completions", question)["choices"][0]

# %%
server.terminate()
status = server.wait()

# %% [markdown]
# `probemap push DETECTOR OWNER/NAME` publishes a detector on the Hugging Face hub, and
# `load_scorer("hf://OWNER/NAME")` loads it from there.
