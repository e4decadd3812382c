"""Each site is the module that it is called after, in blocks of every usual build; other blocks are refused."""

import re
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
import torch
from families import fill, some_answers, tiny

from probemap.activations.forward import check_site, hidden_states
from probemap.activations.hooks import SITES, find_hook_points, parse_layers
from probemap.activations.layout import States
from probemap.activations.reader import layout_for
from probemap.activations.store import ActivationStore
from probemap.cli.flags import Site
from probemap.models.model import Model
from probemap.positions import Indices, token_indices
from probemap.records import Answer, ModelError

# Written down by hand from each model's source: blocks, attention, MLP, last projection of the MLP.
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
KINDS = list(NAMES)


def width(kind: str, site: str) -> int:
    """Inside the MLP 48, or four times the model's width."""
    return (128 if kind in ("gpt2", "falcon") else 48) if site == "mlp_hidden" else 32


def probed(model: Model) -> tuple[list[Answer], Indices]:
    answers = some_answers(model, 5)
    return answers, token_indices(answers, [None] * 5, ("last_q", "-1"))


def by_hand(model: Model, answer: Answer, taken: dict[str, bool]) -> dict[str, torch.Tensor]:
    """What each named module takes (True) or gives (False) for one answer alone: name -> (tokens, width)."""
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        value = inputs if taken[name] else output
        # Falcon adds to what its MLP returns in place.
        kept[name] = (value[0] if isinstance(value, tuple) else value).reshape(len(answer.token_ids), -1).clone()

    handles = [model.network.get_submodule(n).register_forward_hook(partial(keep, n)) for n in taken]
    with torch.inference_mode():
        model.network(torch.tensor([answer.token_ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return kept


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_site_is_the_module_of_that_name(kind: str, site: str) -> None:
    model = tiny(kind)
    answers, indices = probed(model)
    got = hidden_states(model, answers, indices, site)
    assert got.shape == (5, 3, 2, width(kind, site))
    blocks, *modules = NAMES[kind]
    inside = dict(zip(SITES, ("", *modules), strict=True))[site]
    names = [f"{blocks}.{layer}.{inside}".rstrip(".") for layer in range(3)]
    for row, answer in enumerate(answers):
        expected = by_hand(model, answer, dict.fromkeys(names, site in INPUTS))
        for layer, name in enumerate(names):
            np.testing.assert_allclose(got[row, layer], expected[name][indices[row]], atol=2e-5)


def every_site(model: Model) -> dict[str, States]:
    answers, indices = probed(model)
    return {site: hidden_states(model, answers, indices, site) for site in SITES}


def test_a_block_adds_attention_and_mlp_to_what_comes_in() -> None:
    states = every_site(tiny("llama"))
    resid = states["resid"]
    for layer in (1, 2):
        parts = resid[:, layer - 1] + states["attn_out"][:, layer] + states["mlp_out"][:, layer]
        np.testing.assert_allclose(resid[:, layer], parts, atol=1e-5)
        assert np.abs(states["attn_out"][:, layer]).max() > 1e-3
        assert np.abs(states["mlp_out"][:, layer]).max() > 1e-4


def test_the_last_projection_makes_the_mlp_s_output_of_its_hidden_units() -> None:
    model = tiny("llama")
    states = every_site(model)
    for layer in range(3):
        weight = model.network.model.layers[layer].mlp.down_proj.weight.detach().numpy()
        made = states["mlp_hidden"][:, layer] @ weight.T
        np.testing.assert_allclose(states["mlp_out"][:, layer], made, atol=1e-5)


def test_heads_together_make_the_attention_s_output() -> None:
    model = tiny("llama")
    states = every_site(model)
    for layer in range(3):
        weight = model.network.model.layers[layer].self_attn.o_proj.weight.detach().numpy()
        parts = [states["heads"][:, layer, :, 8 * h : 8 * h + 8] @ weight[:, 8 * h : 8 * h + 8].T for h in range(4)]
        np.testing.assert_allclose(states["attn_out"][:, layer], sum(parts), atol=1e-5)
        assert all(np.abs(part).max() > 1e-4 for part in parts)


def test_a_store_has_the_site_s_width_and_is_filled_from_that_site(tmp_path: object) -> None:
    model = tiny("gpt2")
    answers, indices = probed(model)
    layout = layout_for(model, answers, indices, ("last_q", "-1"), site="mlp_hidden")
    assert (layout.site, layout.d) == ("mlp_hidden", 128)
    store = ActivationStore.create(f"{tmp_path}/store", layout)
    fill(store, model, answers, indices)
    whole = np.stack([store.read_layer(k) for k in range(3)], axis=1)
    np.testing.assert_allclose(whole, hidden_states(model, answers, indices, "mlp_hidden"), atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "site", "problem"),
    [
        ("mixtral", "mlp_hidden", r"found 0 layers in the MLP, 0 of them to width 32; the block holds self_attn"),
        ("bloom", "attn_out", r"found BloomAttention, which adds the residual stream to its output"),
        ("bloom", "mlp_out", r"found BloomMLP, which adds the residual stream to its output"),
        ("mamba", "attn_out", r"found 0 modules with query layers .*; the block holds norm \(MambaRMSNorm\), mixer"),
        ("mamba", "mlp_out", r"found 0 modules with query layers"),
    ],
)
def test_blocks_of_another_build_are_refused(kind: str, site: str, problem: str) -> None:
    with pytest.raises(ModelError, match=rf"{site} of \w+ cannot be identified: {problem}(.|\n)*hint: name the module"):
        find_hook_points(tiny(kind).network, site)


def test_experts_have_an_output_though_no_single_projection() -> None:
    model = tiny("mixtral")
    states = {site: hidden_states(model, *probed(model), site) for site in ("resid", "attn_out", "mlp_out")}
    parts = states["resid"][:, 0] + states["attn_out"][:, 1] + states["mlp_out"][:, 1]
    np.testing.assert_allclose(states["resid"][:, 1], parts, atol=1e-5)


@pytest.mark.parametrize(
    ("site", "named", "width"),
    [
        ("attn_out", "attn_out=self_attn", 32),
        ("mlp_out", "mlp_out=mlp", 32),
        ("mlp_hidden", "mlp_hidden=mlp.down_proj:in", 48),
        ("mlp_hidden", "mlp_hidden=mlp.up_proj", None),
    ],
)
def test_a_module_can_be_named(site: str, named: str, width: int | None) -> None:
    model = tiny("llama")
    answers, indices = probed(model)
    got = hidden_states(model, answers, indices, named)
    assert check_site(model, named) == got.shape[-1] == (width or 48)
    same = np.array_equal(got, hidden_states(model, answers, indices, site), equal_nan=True)
    assert same == (width is not None), "the module of that name, or another"


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
def test_a_name_that_is_none_is_told_with_those_there_are(site: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        check_site(tiny("llama"), site)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_over_two_tokens_shows_the_width(kind: str, site: str) -> None:
    assert check_site(tiny(kind), site) == width(kind, site)


def test_a_module_of_another_width_is_refused_before_anything_is_read() -> None:
    model = tiny("llama")
    model.network.model.layers[1].mlp.forward = lambda x: x[..., :7]
    with pytest.raises(ModelError, match=r"the states at block 1 have shape \(1, 2, 7\), expected \(1, 2, 32\)"):
        check_site(model, "mlp_out=mlp")


def test_the_options_name_the_sites() -> None:
    option = get_args(Site)[1]
    assert [word for word in re.findall(r"[a-z_]+", option.help) if word in SITES] == list(SITES)


def test_an_unknown_site_is_told_with_those_there_are() -> None:
    with pytest.raises(
        ModelError, match=r"unknown site 'mlp'\nhint: the sites are resid, attn_out, heads, mlp_out, mlp_hidden"
    ):
        find_hook_points(tiny("llama").network, "mlp")


def test_blocks_of_unequal_width_are_refused() -> None:
    network = tiny("llama").network
    network.model.layers[1].mlp.up_proj = torch.nn.Linear(32, 40)
    network.model.layers[1].mlp.gate_proj = torch.nn.Linear(32, 40)
    network.model.layers[1].mlp.down_proj = torch.nn.Linear(40, 32)
    with pytest.raises(ModelError, match="the width of mlp_hidden differs between blocks: 40, 48"):
        find_hook_points(network, "mlp_hidden")


def test_a_module_that_is_called_twice_or_gives_another_shape_is_refused() -> None:
    model = tiny("llama")
    layers = model.network.model.layers
    own = layers[2].mlp
    layers[2].mlp = layers[1].mlp
    with pytest.raises(ModelError, match="LlamaMLP at block 1 was called 2 times, expected once"):
        hidden_states(model, *probed(model), "mlp_out")
    layers[2].mlp = own
    own.down_proj = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.Linear(32, 40))
    with pytest.raises(ModelError, match=r"the states at block 2 have shape \(5, \d+, 40\), expected \(5, \d+, 32\)"):
        hidden_states(model, *probed(model), "mlp_out")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", [0]), ("8,0,-1", [0, 8, 31]), ("0..31:8", [0, 8, 16, 24]), ("-3..-1, 2", [2, 29, 30, 31]), ("5..5", [5])],
)
def test_layers_are_named_by_number_or_range(text: str, numbers: list[int]) -> None:
    assert parse_layers(text, 32) == numbers


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("32", "layers out of range: '32'\nhint: this model has layers 0 to 31"),
        ("0,-33", "layers out of range: '-33'"),
        ("4..2", "layers out of range: '4..2'"),
        ("0..4:0", "layers out of range: '0..4:0'"),
        ("all", "the layers 'all' cannot be parsed\nhint: write 0,8,16"),
        ("", "the layers '' cannot be parsed"),
        ("1.5", "the layers '1.5' cannot be parsed"),
    ],
)
def test_layers_that_are_none_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ModelError, match=re.escape(problem)):
        parse_layers(text, 32)


def test_some_layers_are_those_of_all(tmp_path: object) -> None:
    model = tiny("llama")
    answers, indices = probed(model)
    layout = layout_for(model, answers, indices, ("last_q", "-1"), layers="0,-1")
    assert (layout.n_layers, layout.layer_numbers) == (2, [0, 2])
    store = ActivationStore.create(f"{tmp_path}/store", layout)
    fill(store, model, answers, indices)
    everything = hidden_states(model, answers, indices)
    for layer in (0, 2):
        np.testing.assert_allclose(store.read_layer(layer), everything[:, layer], atol=2e-5)
