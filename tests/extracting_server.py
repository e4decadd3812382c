"""Files of hidden states in the form in which vLLM writes them, and a server that names such files in its replies."""

import fcntl
import json
import threading
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fake_endpoint import chat_reply
from safetensors.torch import save_file

from probemap.models.model import Model
from probemap.records import Answer

_HOOKS = threading.Lock()
"""Held while the model has hooks, because requests are answered in several threads."""


def residual_stream(model: Model, token_ids: Sequence[int], layers: Sequence[int]) -> torch.Tensor:
    """Return the residual stream that enters blocks, as an array of shape (tokens, layers, d).

    The number of blocks names the output of the last block before the final norm.
    """
    outputs: list[torch.Tensor] = []

    def record(module: Any, inputs: Any, output: Any) -> None:
        outputs.append((output[0] if isinstance(output, tuple) else output)[0])

    with _HOOKS, torch.inference_mode():
        hooks = [block.register_forward_hook(record) for block in model.network.model.layers]
        model.network(torch.tensor([list(token_ids)]))
        for hook in hooks:
            hook.remove()
    return torch.stack([outputs[k - 1] for k in layers], dim=1).clone()


def write_extracted(path: Path, model: Model, token_ids: Sequence[int], layers: Sequence[int], plus: float = 0) -> None:
    """Write one file under an exclusive lock, as vLLM does.  The number `plus` is added to the states."""
    with Path(f"{path}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        states = residual_stream(model, token_ids, layers) + plus
        save_file({"hidden_states": states, "token_ids": torch.tensor(list(token_ids))}, path)


class ExtractingServer:
    """The responses of a vLLM server that extracts hidden states and generates the given answers.

    The number `plus` is added to the states, so that they can be distinguished from those of the local model.
    """

    def __init__(self, model: Model, answers: Sequence[Answer], folder: Path, layers: Sequence[int]) -> None:
        # A copy, because the local model has hooks of its own while the server responds in other threads.
        self.model = replace(model, network=deepcopy(model.network))
        self.folder, self.layers, self.plus = folder, layers, 0.0
        self.answer_of = {answer.prompt: answer for answer in answers}
        folder.mkdir()

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.answer_of[self.model.chat_template.render(body["messages"])]
        text = self.model.tokenizer.decode(answer.produced_ids, skip_special_tokens=True)
        reply = chat_reply(text, "stop" if answer.stopped else "length")
        reply["choices"][0]["token_ids"] = list(answer.produced_ids)
        reply["prompt_token_ids"] = list(answer.token_ids[: answer.n_prompt])
        include = body.get("kv_transfer_params", {}).get("include_output_tokens", False)
        reply["kv_transfer_params"] = {"hidden_states_path": str(self.write(answer, include))}
        return json.loads(json.dumps(reply))

    def write(self, answer: Answer, include_output_tokens: bool) -> Path:
        file = self.folder / f"chatcmpl-{answer.id}.safetensors"
        token_ids = answer.token_ids[:-1] if include_output_tokens else answer.token_ids[: answer.n_prompt]
        write_extracted(file, self.model, token_ids, self.layers, self.plus)
        return file
