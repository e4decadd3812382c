"""Tiny random models of every family, built from their configurations: three layers, width 32."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from conftest import byte_level_tokenizer

from probemap.activations.reader import Reader, ShardStore, fill_store
from probemap.models.model import Model
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import Indices
from probemap.records import Answer

_USUAL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_WINDOW = {**_USUAL, "head_dim": 8, "sliding_window": 8}

FAMILIES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, _USUAL),
    "mistral": (transformers.MistralConfig, _WINDOW),
    "qwen2": (transformers.Qwen2Config, {**_USUAL, "use_sliding_window": True, "sliding_window": 8}),
    "qwen3": (transformers.Qwen3Config, {**_USUAL, "head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": (transformers.Gemma2Config, {**_WINDOW, "query_pre_attn_scalar": 8}),
    "gemma3": (transformers.Gemma3TextConfig, _WINDOW),
    "phi3": (transformers.Phi3Config, _USUAL),
    "gpt2": (transformers.GPT2Config, {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}),
    "gpt_neox": (transformers.GPTNeoXConfig, _USUAL),
    "opt": (transformers.OPTConfig, {**_USUAL, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "falcon": (transformers.FalconConfig, {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}),
    "olmo": (transformers.OlmoConfig, _USUAL),
    "olmo2": (transformers.Olmo2Config, _USUAL),
    "stablelm": (transformers.StableLmConfig, _USUAL),
    "granite": (transformers.GraniteConfig, {**_USUAL, "residual_multiplier": 0.5}),
    "mixtral": (transformers.MixtralConfig, {**_USUAL, "num_local_experts": 4}),
    "bloom": (transformers.BloomConfig, {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "mamba": (transformers.MambaConfig, {"hidden_size": 32, "num_hidden_layers": 3}),
}
"""Family -> its configuration, and what is told to it."""

SUPPORTED = [name for name in FAMILIES if name not in ("bloom", "mamba")]
"""Those of the usual build; the others show `resid` alone."""


def tiny(family: str) -> Model:
    """A model of the family, with random weights that are always the same."""
    tokenizer = byte_level_tokenizer()
    make, options = FAMILIES[family]
    config = make(vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0, eos_token_id=1, **options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = transformers.AutoModelForCausalLM.from_config(config).eval()
    return Model(family, "r", network, tokenizer)


def some_answers(model: Model, n: int = 9) -> list[Answer]:
    """Return answers of random tokens, of various lengths."""
    rng = np.random.default_rng(0)
    vocabulary_size = len(model.tokenizer)
    answers = []
    for i in range(n):
        n_prompt, n_produced = int(rng.integers(3, 30)), int(rng.integers(3, 12))
        token_ids = tuple(int(t) for t in rng.integers(5, vocabulary_size, n_prompt + n_produced))
        answers.append(
            Answer(
                id=f"a{i}",
                prompt="",
                text="",
                token_ids=token_ids,
                n_prompt=n_prompt,
                offsets=((0, 0),) * len(token_ids),
                logprobs=(-1.0,) * n_produced,
                stopped=True,
            )
        )
    return answers


def fill(
    store: ShardStore,
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> None:
    """Write the missing shards of a store with a `Reader`; `options` are further fields of it."""
    reader = Reader(engine=TransformersEngine(model), answers=answers, indices=indices, layout=store.layout, **options)
    list(fill_store(store, reader, progress=progress))
