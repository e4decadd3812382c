"""Where in a block states are read: the blocks of a model, and the module behind each site.

Found by structure, so that no list of models has to be kept.  The attention is the module that directly holds query
layers and a projection back to the width of the residual stream.  The MLP is the block's other child with weight
matrices; in OPT's blocks its two layers lie bare on the block.  What does not look like that is refused: a state from
the wrong place would make a map like any other.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from probemap.records import ModelError

if TYPE_CHECKING:  # torch loads in seconds; the names of the sites are wanted without it
    import torch

SITES: dict[str, str] = {
    "resid": "the residual stream after the block",
    "attn_out": "what the block's attention returns, before any norm or scale that the block puts on it",
    "heads": "what each head of the block's attention returns, one beside the next: the input of its last projection",
    "mlp_out": "what the block's MLP returns, before any norm or scale that the block puts on it",
    "mlp_hidden": "the input of the MLP's last projection; as wide as the MLP is inside",
}
"""Name -> what is read there, once per block."""

_QUERY = re.compile(r"qkv|query|c_attn|(^|_|w)(q|k|v|kv)(_|$)", re.IGNORECASE)
"""Names of the layers that make queries, keys or values: q_proj, Wqkv, query_key_value, c_attn, kv_a_proj, …"""

_HINT = (
    "name the module inside a block, as in --site attn_out=self_attn (its output) or "
    "--site mlp_hidden=mlp.down_proj:in (its input); --site resid can be read from every model"
)


@dataclass(frozen=True)
class HookPoint:
    """One block's module, and what of its call is a state."""

    module: "torch.nn.Module"
    takes_input: bool
    """True: the state is the module's input; False: its output, the first if there are several."""
    d: int
    """Width of the state."""

    def state(self, inputs: Any, output: Any) -> Any:
        """The state in one call of the module."""
        value = inputs if self.takes_input else output
        return value[0] if isinstance(value, tuple) else value


@contextmanager
def forward_hooks(
    modules: "Mapping[int, torch.nn.Module]", keep: Callable[[int, Any, Any, Any], None]
) -> Iterator[None]:
    """While it lasts, `keep` is called with (key, module, inputs, output) of every call of the modules."""
    handles = [module.register_forward_hook(partial(keep, key)) for key, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def parse_site(site: str) -> str | None:
    """What follows ``NAME=`` in a site; None if it is a name alone.

    Raises
    ------
    ModelError: there is no site of that name.
    """
    name, named, path = site.partition("=")
    if name not in SITES:
        raise ModelError(f"there is no site {site!r}", f"the sites are {', '.join(SITES)}")
    return path if named else None


def parse_layers(text: str, n_layers: int) -> list[int]:
    """``0,8,-1`` (the last) or ``0..31:4`` (every fourth) as numbers of layers, in their order.

    Raises
    ------
    ModelError: something else, or a layer that there is not.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:\.\.(-?\d+)(?::(\d+))?)?\s*", part)
        if match is None:
            raise ModelError(f"the layers {text!r} cannot be read", "write 0,8,16, or 0..31:4 for every fourth")
        first, last = (int(k) if int(k) >= 0 else n_layers + int(k) for k in (match[1], match[2] or match[1]))
        if not 0 <= first <= last < n_layers or match[3] == "0":
            raise ModelError(f"there are no layers {part.strip()!r}", f"this model has layers 0 to {n_layers - 1}")
        found.update(range(first, last + 1, int(match[3] or 1)))
    return sorted(found)


def find_hook_points(network: Any, site: str) -> list[HookPoint]:
    """Where the states of `site` are read, one tap per block, in order.

    Parameters
    ----------
    site: one of `SITES`, found by structure, or ``NAME=PATH``: the module at PATH inside every block, its output, or
        with ``PATH:in`` its input.

    Raises
    ------
    ModelError: there is no such site, or the blocks do not show where it is; names what was found.
    """
    path = parse_site(site)
    d = int(network.config.get_text_config().hidden_size)
    hook_points = [
        _hook_point(block, site, d) if path is None else _named(block, path, d) for block in find_blocks(network)
    ]
    if len(widths := {hook_point.d for hook_point in hook_points}) > 1:
        raise ModelError(f"{site} is not equally wide in all blocks: {', '.join(map(str, sorted(widths)))}", _HINT)
    return hook_points


def _named(block: "torch.nn.Module", path: str, d: int) -> HookPoint:
    path, _, side = path.partition(":")
    try:
        module = block.get_submodule(path)
    except AttributeError:
        names = [name for name, _ in block.named_modules() if name]
        raise ModelError(
            f"{type(block).__name__} holds no module {path!r}", f"its modules are {', '.join(names[:40])}"
        ) from None
    if side not in ("", "in"):
        raise ModelError(f"{path}:{side} is neither the output nor the input of a module", f"{path}, or {path}:in")
    inside, outside = _features(module) or (d, d)
    return HookPoint(module, True, inside) if side else HookPoint(module, False, outside)


def find_blocks(network: Any) -> "list[torch.nn.Module]":
    """The model's blocks in order: its largest list of modules that has one entry per layer.

    Raises
    ------
    ModelError: no such list; names what was found.
    """
    import torch

    n_layers = int(network.config.get_text_config().num_hidden_layers)
    lists: dict[str, Any] = {
        name: module for name, module in network.named_modules() if isinstance(module, torch.nn.ModuleList)
    }
    fitting = [module for module in lists.values() if len(module) == n_layers]
    if not fitting:
        found = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
        raise ModelError(
            f"{type(network).__name__} has no list of {n_layers} blocks; lists of modules found: {found}",
            "only decoder models of the usual build are supported",
        )
    return list(max(fitting, key=_size))


def _size(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _hook_point(block: "torch.nn.Module", site: str, d: int) -> HookPoint:
    if site == "resid":
        return HookPoint(block, False, d)
    attention = _attention(block, site, d)
    if site == "attn_out":
        return HookPoint(_without_residual(block, site, attention), False, d)
    if site == "heads":
        projection, width = _back(attention, d)[-1]
        return HookPoint(projection, True, width)

    rest = [child for child in block.children() if _has_matrices(child) and attention not in child.modules()]
    bare = bool(rest) and all(_features(child) for child in rest)
    if not bare and len(rest) != 1:
        raise _unclear(block, site, f"{len(rest)} modules with weight matrices beside the attention")
    if site == "mlp_out" and not bare:
        return HookPoint(_without_residual(block, site, rest[0]), False, d)
    layers = [(child, shape) for child in (rest if bare else rest[0].children()) if (shape := _features(child))]
    back = [(child, shape[0]) for child, shape in layers if shape[1] == d]
    if len(layers) < 2 or not back:
        raise _unclear(block, site, f"{len(layers)} layers in the MLP, {len(back)} of them to width {d}")
    projection, width = back[-1]
    return HookPoint(projection, False, d) if site == "mlp_out" else HookPoint(projection, True, width)


def find_attentions(network: Any) -> "list[torch.nn.Module]":
    """The attention of every block, in order.

    Raises
    ------
    ModelError: the blocks do not show where it is.
    """
    d = int(network.config.get_text_config().hidden_size)
    return [_attention(block, "attention", d) for block in find_blocks(network)]


def _attention(block: "torch.nn.Module", site: str, d: int) -> "torch.nn.Module":
    attentions = [module for module in block.modules() if _is_attention(module, d)]
    if len(attentions) != 1:
        raise _unclear(block, site, f"{len(attentions)} modules with query layers and a projection to width {d}")
    return attentions[0]


def _features(module: Any) -> tuple[int, int] | None:
    """Width of input and output of a linear layer (torch's, or the Conv1D of GPT-2); None for other modules."""
    if type(module).__name__ == "Conv1D" and getattr(module, "weight", None) is not None:
        inside, outside = module.weight.shape
        return int(inside), int(outside)
    widths = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (widths[0], widths[1]) if isinstance(widths[0], int) and isinstance(widths[1], int) else None


def _is_attention(module: "torch.nn.Module", d: int) -> bool:
    asks = any(_QUERY.search(name) for name, child in module.named_children() if _features(child))
    return asks and bool(_back(module, d))


def _back(attention: "torch.nn.Module", d: int) -> "list[tuple[torch.nn.Module, int]]":
    """An attention's projections to the width of the residual stream, each with the width of its input."""
    layers = [(name, child, _features(child)) for name, child in attention.named_children()]
    return [(child, shape[0]) for name, child, shape in layers if shape and shape[1] == d and not _QUERY.search(name)]


def _has_matrices(module: "torch.nn.Module") -> bool:
    """True for what mixes the widths, unlike norms and dropout: packed weights of linear layers count as well."""
    return any(p.ndim > 1 for p in module.parameters()) or any(_features(m) for m in module.modules())


def _without_residual(block: "torch.nn.Module", site: str, module: "torch.nn.Module") -> "torch.nn.Module":
    """The module, unless it is handed the residual stream to add it itself (Bloom, MPT): its output is then a sum."""
    if "residual" in inspect.signature(module.forward).parameters:
        raise _unclear(block, site, f"{type(module).__name__}, which adds the residual stream to its output")
    return module


def _unclear(block: "torch.nn.Module", site: str, found: str) -> ModelError:
    children = ", ".join(f"{name} ({type(child).__name__})" for name, child in block.named_children())
    return ModelError(f"{type(block).__name__} does not show {site}: found {found}; it holds {children}", _HINT)
