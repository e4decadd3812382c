"""Tiny models with tokenizers and chat templates of which people have reported trouble."""

from typing import Any

import torch
import transformers
from conftest import byte_level_tokenizer

from probemap.models.model import Model

QUESTION = "In which country is Vienna?"


def tiny_model(tokenizer: Any, n_embeddings: int | None = None, label: str = "odd", **config: Any) -> Model:
    """Return a random Llama model with two layers and width 16, with one embedding per token by default."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=n_embeddings or len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=256,
                pad_token_id=None,
                **{"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, **config},
            )
        )
    return Model(label, "1", network.eval(), tokenizer)


def model_with_template(template: Any, *special_tokens: str) -> Model:
    """Return a tiny model whose tokenizer has this chat template, or these named templates, and special tokens."""
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = template
    tokenizer.add_special_tokens({"additional_special_tokens": list(special_tokens)})
    return tiny_model(tokenizer)
