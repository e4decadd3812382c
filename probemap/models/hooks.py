"""Sites and hook points: the modules in a block whose inputs or outputs are recorded as hidden states.

Hook points are identified from the structure of a block, so no list of architectures has to be maintained.  The
attention module is the one whose direct children include query layers and a projection back to the width of the
residual stream.  The MLP is the only other child of the block that has weight matrices, except in OPT, where the two
layers of the MLP are direct children of the block.  Blocks with a different structure are rejected, because states from
the wrong module would still give a plausible map.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from probemap.records import ModelError

if TYPE_CHECKING:  # importing torch takes seconds, and the command line needs only the names of the sites
    import torch

_QUERY = re.compile(r"qkv|query|c_attn|(^|_|w)(q|k|v|kv)(_|$)", re.IGNORECASE)
"""Pattern that matches the names of query, key and value layers, such as q_proj, Wqkv and kv_a_proj."""

_HINT = (
    "name the module inside a block, as in --site attn_out=self_attn (its output) or "
    "--site mlp_hidden=mlp.down_proj:in (its input); --site resid works with every model"
)


@dataclass(frozen=True)
class HookPoint:
    """The module of one block whose input or output is recorded as the hidden state.

    Examples
    --------
    Record the output of a linear layer:

    >>> import torch
    >>> from probemap import HookPoint
    >>> point = HookPoint(torch.nn.Linear(8, 4), takes_input=False, d=4)
    >>> point.state((torch.zeros(1, 8),), torch.ones(1, 4)).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    module: torch.nn.Module
    takes_input: bool
    """If True, the state is the module's first input.  If False, it is the output, or the first output if the module
    returns several."""
    d: int
    """Width of the state."""

    def state(self, inputs: Any, output: Any) -> Any:
        """Return the hidden state, given the inputs and the output of one call to the module."""
        value = inputs if self.takes_input else output
        return value[0] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Site:
    """A place in a transformer block where hidden states are recorded.

    Examples
    --------
    Define a site for the queries of a Llama block, to be passed to `probemap.capture` as ``site=QUERIES``:

    >>> from probemap import HookPoint, Site
    >>> def queries(block, d):
    ...     module = block.self_attn.q_proj
    ...     return HookPoint(module, takes_input=False, d=module.out_features)
    >>> QUERIES = Site("queries", "the queries of all heads", queries)
    """

    name: str
    description: str
    hook_point: Callable[[torch.nn.Module, int], HookPoint]
    """Callable ``(block, d) -> HookPoint``, where ``d`` is the width of the residual stream.  It may raise ModelError
    if the block does not have the site."""


@contextmanager
def forward_hooks(modules: Mapping[int, torch.nn.Module], hook: Callable[[int, Any, Any, Any], None]) -> Iterator[None]:
    """Within the ``with`` block, call ``hook(key, module, inputs, output)`` after every forward call of a module."""
    handles = [module.register_forward_hook(partial(hook, key)) for key, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def parse_layers(text: str, n_layers: int) -> list[int]:
    """Parse a selection of layers such as ``0,8,-1`` (-1 is the last layer) or ``0..31:4`` (every fourth layer).

    Parameters
    ----------
    text : str
        Comma-separated layer numbers and ranges.  A range is written as ``FIRST..LAST`` or ``FIRST..LAST:STEP``; both
        ends are inclusive.
    n_layers : int
        Number of layers in the model.

    Returns
    -------
    list of int
        Layer numbers in ascending order.

    Raises
    ------
    ModelError
        If the text cannot be parsed, or if a layer is out of range.
    """
    numbers: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:\.\.(-?\d+)(?::(\d+))?)?\s*", item)
        if match is None or (match[3] and int(match[3]) == 0):
            raise ModelError(
                f"cannot parse the layers {text!r}", "write, for example, 0,8,16, or 0..31:4 for every fourth layer"
            )
        first, last = (int(k) if int(k) >= 0 else n_layers + int(k) for k in (match[1], match[2] or match[1]))
        if not 0 <= first <= last < n_layers:
            raise ModelError(f"layers out of range: {item.strip()!r}", f"this model has layers 0 to {n_layers - 1}")
        numbers.update(range(first, last + 1, int(match[3] or 1)))
    return sorted(numbers)


def select_layers(layers: str | Sequence[int] | None, n_layers: int) -> list[int]:
    """Return the numbers of the selected layers in ascending order.

    Parameters
    ----------
    layers : str, sequence of int or None
        Layer numbers, or text in the format described in `parse_layers`.  Negative numbers count from the last layer.
        None selects all layers.
    n_layers : int
        Number of layers in the model.

    Raises
    ------
    ModelError
        If the text cannot be parsed, or if a layer is out of range.
    """
    if layers is None:
        return list(range(n_layers))
    return parse_layers(layers if isinstance(layers, str) else ",".join(map(str, layers)), n_layers)


def find_blocks(network: Any) -> list[torch.nn.Module]:
    """Return the transformer blocks of a network, in order.

    The blocks are the entries of the ``ModuleList`` whose length equals the number of layers.  If several lists have
    this length, the one with the most parameters is used.

    Raises
    ------
    ModelError
        If the network has no list of this length.  The message names the module lists that were found.
    """
    import torch

    n_layers = int(network.config.get_text_config().num_hidden_layers)
    lists: dict[str, Any] = {
        name: module for name, module in network.named_modules() if isinstance(module, torch.nn.ModuleList)
    }
    candidates = [module for module in lists.values() if len(module) == n_layers]
    if not candidates:
        sizes = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
        raise ModelError(
            f"{type(network).__name__} has no list of {n_layers} blocks; module lists found: {sizes}",
            "only decoder models with the usual structure are supported",
        )
    return list(max(candidates, key=_parameter_count))


def _parameter_count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def find_attentions(network: Any) -> list[torch.nn.Module]:
    """Return the attention module of every block, in order.

    Raises
    ------
    ModelError
        If the attention module of a block cannot be identified.
    """
    d = int(network.config.get_text_config().hidden_size)
    return [_attention(block, "attention", d) for block in find_blocks(network)]


def _attention(block: torch.nn.Module, site: str, d: int) -> torch.nn.Module:
    attentions = [module for module in block.modules() if _is_attention(module, d)]
    if len(attentions) != 1:
        raise _unclear(block, site, f"{len(attentions)} modules with query layers and a projection to width {d}")
    return attentions[0]


def _is_attention(module: torch.nn.Module, d: int) -> bool:
    has_queries = any(_QUERY.search(name) for name, child in module.named_children() if _widths(child))
    return has_queries and bool(_output_projections(module, d))


def _output_projections(attention: torch.nn.Module, d: int) -> list[tuple[torch.nn.Module, int]]:
    """Return the output projections of an attention module, each with its input width."""
    layers = [(name, child, _widths(child)) for name, child in attention.named_children()]
    return [
        (child, widths[0]) for name, child, widths in layers if widths and widths[1] == d and not _QUERY.search(name)
    ]


def _widths(module: Any) -> tuple[int, int] | None:
    """Return the input and output widths of a linear layer or a GPT-2 Conv1D layer, or None for any other module."""
    if type(module).__name__ == "Conv1D" and getattr(module, "weight", None) is not None:
        d_in, d_out = module.weight.shape
        return int(d_in), int(d_out)
    widths = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (widths[0], widths[1]) if isinstance(widths[0], int) and isinstance(widths[1], int) else None


def _has_matrices(module: torch.nn.Module) -> bool:
    """Return True if a module has weight matrices, unlike norms and dropout layers.

    Linear layers are also recognised by their widths, because quantisation may pack the weights into one dimension.
    """
    return any(p.ndim > 1 for p in module.parameters()) or any(_widths(m) for m in module.modules())


def _without_residual(block: torch.nn.Module, site: str, module: torch.nn.Module) -> torch.nn.Module:
    """Return the module, or raise ModelError if it adds the residual stream to its output, as in Bloom and MPT."""
    if "residual" in inspect.signature(module.forward).parameters:
        raise _unclear(block, site, f"{type(module).__name__}, which adds the residual stream to its output")
    return module


def _unclear(block: torch.nn.Module, site: str, reason: str) -> ModelError:
    children = ", ".join(f"{name} ({type(child).__name__})" for name, child in block.named_children())
    return ModelError(
        f"{site} of {type(block).__name__} cannot be identified: found {reason}; the block contains {children}", _HINT
    )


def _block_output(block: torch.nn.Module, d: int) -> HookPoint:
    return HookPoint(block, False, d)


def _attention_output(block: torch.nn.Module, d: int) -> HookPoint:
    return HookPoint(_without_residual(block, "attn_out", _attention(block, "attn_out", d)), False, d)


def _head_outputs(block: torch.nn.Module, d: int) -> HookPoint:
    projection, width = _output_projections(_attention(block, "heads", d), d)[-1]
    return HookPoint(projection, True, width)


def _mlp(site: str, block: torch.nn.Module, d: int) -> HookPoint:
    attention = _attention(block, site, d)
    candidates = [child for child in block.children() if _has_matrices(child) and attention not in child.modules()]
    # In OPT, the linear layers of the MLP are direct children of the block.
    unwrapped = bool(candidates) and all(_widths(child) for child in candidates)
    if not unwrapped and len(candidates) != 1:
        raise _unclear(block, site, f"{len(candidates)} modules with weight matrices besides the attention module")
    if site == "mlp_out" and not unwrapped:
        return HookPoint(_without_residual(block, site, candidates[0]), False, d)
    children = candidates if unwrapped else candidates[0].children()
    layers = [(child, widths) for child in children if (widths := _widths(child))]
    projections = [(child, widths[0]) for child, widths in layers if widths[1] == d]
    if len(layers) < 2 or not projections:
        raise _unclear(
            block, site, f"{len(layers)} layers in the MLP, {len(projections)} of them with output width {d}"
        )
    projection, width = projections[-1]
    return HookPoint(projection, False, d) if site == "mlp_out" else HookPoint(projection, True, width)


SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site("resid", "the residual stream after the block", _block_output),
        Site("attn_out", "the output of the attention, before any norm or scaling by the block", _attention_output),
        Site(
            "heads", "the outputs of all attention heads, concatenated: the input of the last projection", _head_outputs
        ),
        Site("mlp_out", "the output of the MLP, before any norm or scaling by the block", partial(_mlp, "mlp_out")),
        Site(
            "mlp_hidden", "the hidden units of the MLP: the input of its last projection", partial(_mlp, "mlp_hidden")
        ),
    )
}
"""Mapping from names to built-in sites."""


def resolve_site(site: str | Site) -> Site:
    """Return the site with the given name, or the site at the module path that ``NAME=PATH`` specifies.

    Parameters
    ----------
    site : str or Site
        Name in `SITES`, or ``NAME=PATH``, where NAME is a name in `SITES` and PATH is the path of a module inside every
        block.  The states are the output of that module, or its input if the path ends with ``:in``.  A `Site` is
        returned unchanged.

    Raises
    ------
    ModelError
        If the name is unknown, or if a user-defined site has the name of a built-in site.
    """
    if isinstance(site, Site):
        if SITES.get(site.name, site) is not site:
            raise ModelError(
                f"{site.name!r} is the name of a built-in site", "choose a different name for the user-defined site"
            )
        return site
    name, has_path, path = site.partition("=")
    if name not in SITES:
        raise ModelError(f"unknown site {site!r}", f"the sites are {', '.join(SITES)}")
    return Site(site, f"the module {path}", partial(_module_at, path)) if has_path else SITES[name]


def _module_at(path: str, block: torch.nn.Module, d: int) -> HookPoint:
    path, _, side = path.partition(":")
    try:
        module = block.get_submodule(path)
    except AttributeError:
        names = [name for name, _ in block.named_modules() if name]
        raise ModelError(
            f"{type(block).__name__} has no module {path!r}", f"its modules are {', '.join(names[:40])}"
        ) from None
    if side not in ("", "in"):
        raise ModelError(
            f"{path}:{side} is neither the output nor the input of a module",
            f"write {path} for the output, or {path}:in for the input",
        )
    d_in, d_out = _widths(module) or (d, d)
    return HookPoint(module, True, d_in) if side else HookPoint(module, False, d_out)


def find_hook_points(network: Any, site: str | Site) -> list[HookPoint]:
    """Return the hook point of `site` in every block, in order.

    Parameters
    ----------
    network : transformers.PreTrainedModel
    site : str or Site
        See `resolve_site`.

    Raises
    ------
    ModelError
        If the site is unknown, if it cannot be identified in a block, or if its width differs between blocks.
    """
    site = resolve_site(site)
    d = int(network.config.get_text_config().hidden_size)
    hook_points = [site.hook_point(block, d) for block in find_blocks(network)]
    if len(widths := {hook_point.d for hook_point in hook_points}) > 1:
        raise ModelError(
            f"the width of {site.name} differs between blocks: {', '.join(map(str, sorted(widths)))}", _HINT
        )
    return hook_points
