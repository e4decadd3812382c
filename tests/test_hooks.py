"""Each site is the module of that name in blocks of every supported structure; other blocks are rejected."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from families import fill, some_answers, tiny

from probemap.activations.layout import States
from probemap.activations.reader import layout_for
from probemap.activations.store import ActivationStore
from probemap.models.forward import check_site, hidden_states
from probemap.models.hooks import SITES, find_blocks, find_hook_points, parse_layers
from probemap.models.model import Model
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import Indices, token_indices
from probemap.records import Answer, ModelError
from probemap.runs.options import CaptureOptions, option_metadata

# Taken from the source code of each model: blocks, attention, last projection, MLP, last projection of the MLP.
NAMES = {
    "llama": ("model.layers", "self_attn", "self_attn.o_proj", "mlp", "mlp.down_proj"),
    "gpt2": ("transformer.h", "attn", "attn.c_proj", "mlp", "mlp.c_proj"),
    "gemma3": ("model.layers", "self_attn", "self_attn.o_proj", "mlp", "mlp.down_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention", "attention.dense", "mlp", "mlp.dense_4h_to_h"),
    "opt": ("model.decoder.layers", "self_attn", "self_attn.out_proj", "fc2", "fc2"),
    "phi3": ("model.layers", "self_attn", "self_attn.o_proj", "mlp", "mlp.down_proj"),
    "falcon": ("transformer.h", "self_attention", "self_attention.dense", "mlp", "mlp.dense_4h_to_h"),
}
INPUTS = ("heads", "mlp_hidden")
FAMILY_NAMES = list(NAMES)


def width(family: str, site: str) -> int:
    """Return the width of a site; inside the MLP it is 48, or four times the width of the model."""
    return (128 if family in ("gpt2", "falcon") else 48) if site == "mlp_hidden" else 32


def probed(model: Model) -> tuple[list[Answer], Indices]:
    answers = some_answers(model, 5)
    return answers, token_indices(answers, [None] * 5, ("last_q", "-1"))


def module_states(model: Model, answer: Answer, takes_input: dict[str, bool]) -> dict[str, torch.Tensor]:
    """Return the input (True) or output (False) of each named module for one answer: name -> (tokens, width)."""
    states: dict[str, torch.Tensor] = {}

    def record(name: str, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        value = inputs if takes_input[name] else output
        # Falcon modifies the output of its MLP in place.
        states[name] = (value[0] if isinstance(value, tuple) else value).reshape(len(answer.token_ids), -1).clone()

    handles = [model.network.get_submodule(n).register_forward_hook(partial(record, n)) for n in takes_input]
    with torch.inference_mode():
        model.network(torch.tensor([answer.token_ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return states


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_hidden_states_at_a_site_are_those_of_the_module(family: str, site: str) -> None:
    model = tiny(family)
    answers, indices = probed(model)
    states = hidden_states(model, answers, indices, site)
    assert states.shape == (5, 3, 2, width(family, site))
    blocks, *modules = NAMES[family]
    path = dict(zip(SITES, ("", *modules), strict=True))[site]
    names = [f"{blocks}.{layer}.{path}".rstrip(".") for layer in range(3)]
    for row, answer in enumerate(answers):
        expected = module_states(model, answer, dict.fromkeys(names, site in INPUTS))
        for layer, name in enumerate(names):
            np.testing.assert_allclose(states[row, layer], expected[name][indices[row]], atol=2e-5)


def states_of_all_sites(model: Model) -> dict[str, States]:
    answers, indices = probed(model)
    return {site: hidden_states(model, answers, indices, site) for site in SITES}


def test_resid_is_the_sum_of_its_input_attn_out_and_mlp_out() -> None:
    states = states_of_all_sites(tiny("llama"))
    resid = states["resid"]
    for layer in (1, 2):
        total = resid[:, layer - 1] + states["attn_out"][:, layer] + states["mlp_out"][:, layer]
        np.testing.assert_allclose(resid[:, layer], total, atol=1e-5)
        assert np.abs(states["attn_out"][:, layer]).max() > 1e-3
        assert np.abs(states["mlp_out"][:, layer]).max() > 1e-4


def test_mlp_out_is_the_projection_of_mlp_hidden() -> None:
    model = tiny("llama")
    states = states_of_all_sites(model)
    for layer in range(3):
        weight = model.network.model.layers[layer].mlp.down_proj.weight.detach().numpy()
        projected = states["mlp_hidden"][:, layer] @ weight.T
        np.testing.assert_allclose(states["mlp_out"][:, layer], projected, atol=1e-5)


def test_attn_out_is_the_sum_of_the_projected_heads() -> None:
    model = tiny("llama")
    states = states_of_all_sites(model)
    for layer in range(3):
        weight = model.network.model.layers[layer].self_attn.o_proj.weight.detach().numpy()
        heads = [states["heads"][:, layer, :, 8 * h : 8 * h + 8] @ weight[:, 8 * h : 8 * h + 8].T for h in range(4)]
        np.testing.assert_allclose(states["attn_out"][:, layer], sum(heads), atol=1e-5)
        assert all(np.abs(head).max() > 1e-4 for head in heads)


def test_fill_store_records_the_site_of_the_layout(tmp_path: object) -> None:
    model = tiny("gpt2")
    answers, indices = probed(model)
    layout = layout_for(TransformersEngine(model), answers, indices, ("last_q", "-1"), site="mlp_hidden")
    assert (layout.site, layout.d) == ("mlp_hidden", 128)
    store = ActivationStore.create(f"{tmp_path}/store", layout)
    fill(store, model, answers, indices)
    stored = np.stack([store.read_layer(k) for k in range(3)], axis=1)
    np.testing.assert_allclose(stored, hidden_states(model, answers, indices, "mlp_hidden"), atol=2e-5)


@pytest.mark.parametrize(
    ("family", "site", "problem"),
    [
        (
            "mixtral",
            "mlp_hidden",
            r"found 0 layers in the MLP, 0 of them with output width 32; the block contains self_attn",
        ),
        ("bloom", "attn_out", r"found BloomAttention, which adds the residual stream to its output"),
        ("bloom", "mlp_out", r"found BloomMLP, which adds the residual stream to its output"),
        ("mamba", "attn_out", r"found 0 modules with query layers .*; the block contains norm \(MambaRMSNorm\), mixer"),
        ("mamba", "mlp_out", r"found 0 modules with query layers"),
    ],
)
def test_find_hook_points_rejects_blocks_with_another_structure(family: str, site: str, problem: str) -> None:
    with pytest.raises(ModelError, match=rf"{site} of \w+ cannot be identified: {problem}(.|\n)*hint: name the module"):
        find_hook_points(tiny(family).network, site)


def test_mlp_out_of_a_mixture_of_experts_is_found() -> None:
    model = tiny("mixtral")
    states = {site: hidden_states(model, *probed(model), site) for site in ("resid", "attn_out", "mlp_out")}
    total = states["resid"][:, 0] + states["attn_out"][:, 1] + states["mlp_out"][:, 1]
    np.testing.assert_allclose(states["resid"][:, 1], total, atol=1e-5)


@pytest.mark.parametrize(
    ("site", "site_with_path", "width"),
    [
        ("attn_out", "attn_out=self_attn", 32),
        ("mlp_out", "mlp_out=mlp", 32),
        ("mlp_hidden", "mlp_hidden=mlp.down_proj:in", 48),
        ("mlp_hidden", "mlp_hidden=mlp.up_proj", None),
    ],
)
def test_hidden_states_accepts_the_path_of_a_module(site: str, site_with_path: str, width: int | None) -> None:
    model = tiny("llama")
    answers, indices = probed(model)
    states = hidden_states(model, answers, indices, site_with_path)
    assert check_site(model, site_with_path) == states.shape[-1] == (width or 48)
    is_equal = np.array_equal(states, hidden_states(model, answers, indices, site), equal_nan=True)
    assert is_equal == (width is not None), "mlp.up_proj is not the module of mlp_hidden"


@pytest.mark.parametrize(
    ("site", "problem"),
    [
        ("attn_out=mixer", r"LlamaDecoderLayer has no module 'mixer'\nhint: its modules are self_attn, "),
        ("attn_out=self_attn:out", "self_attn:out is neither the output nor the input"),
        ("mlp_out=input_layernorm:in:in", "input_layernorm:in:in is neither"),
        ("head=self_attn", "unknown site 'head=self_attn'\nhint: the sites are resid, attn_out"),
        ("attn_out=self_attn.q_norm", "has no module 'self_attn.q_norm'"),
    ],
)
def test_check_site_rejects_unknown_names_and_paths(site: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        check_site(tiny("llama"), site)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_check_site_returns_the_width(family: str, site: str) -> None:
    assert check_site(tiny(family), site) == width(family, site)


def test_check_site_rejects_a_module_of_another_width() -> None:
    model = tiny("llama")
    model.network.model.layers[1].mlp.forward = lambda x: x[..., :7]
    with pytest.raises(ModelError, match=r"the states at block 1 have shape \(1, 2, 7\), expected \(1, 2, 32\)"):
        check_site(model, "mlp_out=mlp")


def test_site_option_names_all_sites() -> None:
    option = option_metadata(CaptureOptions)["site"][1]
    assert [word for word in re.findall(r"[a-z_]+", option.help) if word in SITES] == list(SITES)


def test_find_hook_points_names_the_known_sites() -> None:
    with pytest.raises(
        ModelError, match=r"unknown site 'mlp'\nhint: the sites are resid, attn_out, heads, mlp_out, mlp_hidden"
    ):
        find_hook_points(tiny("llama").network, "mlp")


def test_find_hook_points_rejects_widths_that_differ_between_blocks() -> None:
    network = tiny("llama").network
    network.model.layers[1].mlp.up_proj = torch.nn.Linear(32, 40)
    network.model.layers[1].mlp.gate_proj = torch.nn.Linear(32, 40)
    network.model.layers[1].mlp.down_proj = torch.nn.Linear(40, 32)
    with pytest.raises(ModelError, match="the width of mlp_hidden differs between blocks: 40, 48"):
        find_hook_points(network, "mlp_hidden")


def test_hidden_states_rejects_a_module_that_is_called_twice_or_has_another_shape() -> None:
    model = tiny("llama")
    layers = model.network.model.layers
    mlp = layers[2].mlp
    layers[2].mlp = layers[1].mlp
    with pytest.raises(ModelError, match="LlamaMLP at block 1 was called 2 times, expected once"):
        hidden_states(model, *probed(model), "mlp_out")
    layers[2].mlp = mlp
    mlp.down_proj = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.Linear(32, 40))
    with pytest.raises(ModelError, match=r"the states at block 2 have shape \(5, \d+, 40\), expected \(5, \d+, 32\)"):
        hidden_states(model, *probed(model), "mlp_out")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", [0]), ("8,0,-1", [0, 8, 31]), ("0..31:8", [0, 8, 16, 24]), ("-3..-1, 2", [2, 29, 30, 31]), ("5..5", [5])],
)
def test_parse_layers_accepts_numbers_and_ranges(text: str, numbers: list[int]) -> None:
    assert parse_layers(text, 32) == numbers


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("32", "layers out of range: '32'\nhint: this model has layers 0 to 31"),
        ("0,-33", "layers out of range: '-33'"),
        ("4..2", "layers out of range: '4..2'"),
        ("0..4:0", "cannot parse the layers '0..4:0'"),
        ("all", "cannot parse the layers 'all'\nhint: write, for example, 0,8,16"),
        ("", "cannot parse the layers ''"),
        ("1.5", "cannot parse the layers '1.5'"),
    ],
)
def test_parse_layers_rejects_other_text(text: str, problem: str) -> None:
    with pytest.raises(ModelError, match=re.escape(problem)):
        parse_layers(text, 32)


def test_fill_store_records_selected_layers(tmp_path: object) -> None:
    model = tiny("llama")
    answers, indices = probed(model)
    layout = layout_for(TransformersEngine(model), answers, indices, ("last_q", "-1"), layers="0,-1")
    assert (layout.n_layers, layout.layer_numbers) == (2, [0, 2])
    store = ActivationStore.create(f"{tmp_path}/store", layout)
    fill(store, model, answers, indices)
    all_layers = hidden_states(model, answers, indices)
    for layer in (0, 2):
        np.testing.assert_allclose(store.read_layer(layer), all_layers[:, layer], atol=2e-5)


def test_find_blocks_names_the_lists_it_has_found() -> None:
    network = tiny("llama").network
    network.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"LlamaForCausalLM has no list of 7 blocks; .* found: model.layers \(3\)"):
        find_blocks(network)
