"""Python interface of the capture step, which computes the hidden states of answers."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from probemap.activations.hooks import Site
from probemap.activations.layout import Layout, States
from probemap.activations.memory import MemoryStore
from probemap.activations.reader import Reader, fill_store, layout_for
from probemap.activations.store import ActivationStore
from probemap.models.model import Model
from probemap.positions import POSITIONS, PositionsLike, check_position, parse_positions, token_indices
from probemap.records import Answer, DataError, Span


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Hidden states of answers at the probed tokens, with a description of the model that computed them.

    `fit_map` and `fit_detector` accept an instance in place of an array.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap import Activations
    >>> from probemap.activations.layout import Layout
    >>> from probemap.activations.memory import MemoryStore
    >>> layout = Layout(n=2, n_layers=1, positions=("last_q", "-1"), d=4, site="resid", dtype="float32", shard_rows=2,
    ...                 made_from="")
    >>> store = MemoryStore(layout)
    >>> store.write_shard(0, np.ones((2, 1, 2, 4), np.float32))
    >>> activations = Activations(ids=("q1", "q2"), store=store, model="m", revision="1", dtype="float32")
    >>> activations
    Activations(n=2, layers=[0], positions=('last_q', '-1'), d=4, site='resid', model='m')
    >>> activations.values.shape
    (2, 1, 2, 4)
    >>> activations.read(0, "-1").shape
    (2, 4)
    """

    ids: tuple[str, ...]
    """Ids of the answers."""
    store: ActivationStore | MemoryStore
    """The store that contains the states."""
    model: str
    """Label of the model; see `Model.label`."""
    revision: str
    """Commit of the model on the hub, or SHA-256 of its local files."""
    dtype: str
    """Data type of the weights, such as ``bfloat16``."""
    quantize: str = ""
    """``4bit`` or ``8bit`` if the weights were quantised when they were loaded, otherwise empty."""
    template: str = ""
    """SHA-256 of the tokenizer's chat template, or an empty string if it has none."""

    @property
    def layout(self) -> Layout:
        return self.store.layout

    @property
    def positions(self) -> tuple[str, ...]:
        """Names of the positions, in the order of the third axis of `values`."""
        return self.layout.positions

    @property
    def layers(self) -> list[int]:
        """Layer numbers, in the order of the second axis of `values`."""
        return self.layout.layer_numbers

    @property
    def site(self) -> str:
        """Name of the site at which the states were recorded, e.g. ``resid``."""
        return self.layout.site

    @property
    def attrs(self) -> dict[str, str]:
        """Model, revision and site, as in the ``attrs`` of a `ProbeMap`."""
        return {"model": self.model, "revision": self.revision, "site": self.site}

    @cached_property
    def values(self) -> States:
        """All states, as an ndarray of shape (n, n_layers, n_positions, d), float32.

        The states are NaN where an answer has no token at a position.  If they are in an `ActivationStore`, all of them
        are loaded when this attribute is first used, whereas `read` and `read_layer` load only the states that they
        return.
        """
        if isinstance(self.store, MemoryStore):
            return self.store.values
        return np.stack([self.store.read_layer(layer) for layer in self.layers], axis=1)

    def read(self, layer: int, position: str) -> States:
        """Return the states of one cell as an ndarray of shape (n, d), float32."""
        return self.store.read(layer, position)

    def read_layer(self, layer: int) -> States:
        """Return the states of one layer as an ndarray of shape (n, n_positions, d), float32."""
        return self.store.read_layer(layer)

    def __repr__(self) -> str:
        return (
            f"Activations(n={self.layout.n}, layers={self.layers}, positions={self.positions}, d={self.layout.d}, "
            f"site={self.site!r}, model={self.model!r})"
        )


def capture(
    model: Model,
    answers: Sequence[Answer],
    spans: Sequence[Span | None] | None = None,
    *,
    positions: PositionsLike = None,
    site: str | Site = "resid",
    layers: str | Sequence[int] | None = None,
    batch_size: int = 32,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Activations:
    """Compute the hidden states of answers at the given token positions and layers.

    Parameters
    ----------
    model : Model
        The model that produced the answers, from `load_model`.
    answers : sequence of Answer
    spans : sequence of (Span or None), optional
        Span of the exact answer in each answer, or None if there is none.  By default, no answer has an exact
        answer, and all ``exact_answer_*`` positions are missing.
    positions : str, sequence of str, or mapping, optional
        Names of positions, as a sequence or as comma-separated text such as ``"last_q,-8..-1"``.  To use user-defined
        positions, pass a mapping from names to positions.  A position is a `Position`, or a function of (answer, span)
        that returns an index into ``answer.token_ids``, or None if the answer has no such token.  By default, the
        positions in ``probemap.positions.DEFAULT_POSITIONS`` are used.
    site : str or Site
        Place in each block where the states are recorded: a name in ``probemap.activations.hooks.SITES``, ``NAME=PATH``
        with the path of a module inside a block, or a user-defined `Site`.
    layers : str or sequence of int, optional
        Layer numbers, or text such as ``"0,8,-1"`` or ``"0..31:4"``.  Default: all layers.
    batch_size : int
        Maximum number of answers per batch.  A batch that does not fit in memory is halved.
    store : str or Path, optional
        Local directory of an `ActivationStore` in which the states are stored.  They are read from there when they are
        used.  An interrupted capture is resumed.  By default, the states are kept in memory.
    progress : callable, optional
        Called with (number of answers done, number of answers).

    Returns
    -------
    Activations
        The hidden states, with NaN where an answer has no token at a position.  If an answer does not fit in memory
        even in a batch of its own, its states are NaN and a RuntimeWarning is issued.

    Raises
    ------
    DataError
        If there are no answers, the numbers of spans and answers differ, or a position is unknown.
    ModelError
        If the layer or the site is unknown, or the site cannot be identified in the blocks of the model.
    StoreError
        If a state is not finite, or `store` contains states with a different layout.

    Examples
    --------
    Capture the states of a randomly initialised model with two layers, for a prompt of three tokens and an answer of
    two tokens:

    >>> from tokenizers import Tokenizer, models
    >>> from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    >>> from probemap import Answer, capture
    >>> from probemap.models.model import Model
    >>> config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
    ...                      num_attention_heads=2)
    >>> words = Tokenizer(models.WordLevel({"<end>": 0}))
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    >>> model = Model(label="tiny", revision="1", network=LlamaForCausalLM(config).eval(), tokenizer=tokenizer)
    >>> answer = Answer(id="q1", prompt="1 2 3", text="4", token_ids=(1, 2, 3, 4, 0), n_prompt=3,
    ...                 offsets=((0, 1), (2, 3), (4, 5), (0, 1), (1, 1)), logprobs=(-1.0, -0.5), stopped=True)
    >>> capture(model, [answer], positions=["last_q", "-1"])
    Activations(n=1, layers=[0, 1], positions=('last_q', '-1'), d=8, site='resid', model='tiny')

    Use a user-defined position:

    >>> middle = lambda answer, span: (answer.n_prompt + len(answer.token_ids)) // 2
    >>> capture(model, [answer], positions={"middle": middle}).values.shape
    (1, 2, 1, 8)
    """
    if not len(answers):
        raise DataError("capture got no answers, expected at least one", "pass a non-empty sequence of answers")
    if spans is not None and len(spans) != len(answers):
        raise DataError(f"got {len(spans)} spans for {len(answers)} answers", "pass one span, or None, per answer")
    _check_names(positions)
    names = parse_positions(positions)
    indices = token_indices(answers, [None] * len(answers) if spans is None else spans, positions)
    layout = layout_for(model, answers, indices, names, site=site, layers=layers)
    target = MemoryStore(layout) if store is None else ActivationStore.create(store, layout)
    reader = Reader(
        model=model,
        answers=answers,
        indices=indices,
        layout=layout,
        site=site if isinstance(site, Site) else None,
        batch_size=batch_size,
        log=_warn,
    )
    for _ in fill_store(target, reader, progress=progress or (lambda done, total: None)):
        pass
    return Activations(
        ids=tuple(a.id for a in answers),
        store=target,
        model=model.label,
        revision=model.revision,
        dtype=model.dtype,
        quantize=model.quantize,
        template=model.template_sha256,
    )


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _check_names(positions: PositionsLike) -> None:
    """Reject user-defined positions with the name of a built-in one, because a detector would read the wrong token."""
    for name, rule in positions.items() if isinstance(positions, Mapping) else ():
        if _is_built_in(name) and rule not in (name, POSITIONS.get(name)):
            raise DataError(
                f"{name!r} is the name of a built-in position", "choose a different name for the user-defined position"
            )


def _is_built_in(name: str) -> bool:
    try:
        check_position(name)
    except DataError:
        return False
    return True
