"""Python interface to the capture step, which computes the hidden states of answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.activations.activations import Activations
from probemap.activations.memory import MemoryStore
from probemap.activations.reader import Reader, fill_store, layout_for
from probemap.activations.store import ActivationStore
from probemap.models.hooks import Site
from probemap.models.transformers_engine import as_engine
from probemap.positions import POSITIONS, PositionsLike, check_position, parse_positions, token_indices
from probemap.records import Answer, DataError, Span

if TYPE_CHECKING:
    from probemap.models.engine import Engine
    from probemap.models.model import Model


def capture(
    model: Model | Engine,
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
    model : Model or Engine
        The model that produced the answers, as returned by `load_model`, or an engine that runs it.
    answers : sequence of Answer
    spans : sequence of (Span or None), optional
        Span of the exact answer within each answer, or None if the answer contains no exact answer.  If `spans` is
        omitted, all ``exact_answer_*`` positions are missing.
    positions : str, sequence of str, or mapping, optional
        Names of positions, as a sequence or as comma-separated text such as ``"last_q,-8..-1"``.  To use user-defined
        positions, pass a mapping from names to positions.  A position is a `Position`, or a function of (answer, span)
        that returns an index into ``answer.token_ids``, or None if the answer has no such token.  By default, the
        positions in ``probemap.positions.DEFAULT_POSITIONS`` are used.
    site : str or Site
        Place in each block where the states are recorded: a name in ``probemap.models.hooks.SITES``,
        ``NAME=PATH`` (where PATH is the path of a module inside a block), or a user-defined `Site`.
    layers : str or sequence of int, optional
        Layer numbers, or text such as ``"0,8,-1"`` or ``"0..31:4"``.  Default: all layers.
    batch_size : int
        Maximum number of answers per batch.  A batch that does not fit in memory is halved.
    store : str or Path, optional
        Local directory in which the states are stored as an `ActivationStore`.  They are read from disk when they are
        used.  If the directory contains the states of an interrupted capture, that capture is resumed.  By default, the
        states are kept in memory.
    progress : callable, optional
        Called with the number of answers processed so far and the total number of answers.

    Returns
    -------
    Activations
        The hidden states, with NaN where an answer has no token at a position.  If an answer does not fit in memory
        even in a batch of its own, its states are NaN and a RuntimeWarning is issued.

    Raises
    ------
    DataError
        If there are no answers, if the number of spans does not match the number of answers, or if a position is
        unknown.
    ModelError
        If a layer is out of range, if the site is unknown, or if the site cannot be identified in the model's blocks.
    StoreError
        If a state is not finite, or if `store` contains states with a different layout.

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
    engine = as_engine(model)
    layout = layout_for(engine, answers, indices, names, site=site, layers=layers)
    target = MemoryStore(layout) if store is None else ActivationStore.create(store, layout)
    reader = Reader(
        engine=engine,
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
        model=engine.model.label,
        revision=engine.model.revision,
        dtype=engine.model.dtype,
        quantize=engine.model.quantize,
        template=engine.model.template_sha256,
    )


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _check_names(positions: PositionsLike) -> None:
    """Reject user-defined positions that have the name of a built-in position.

    A detector would use the built-in position instead.
    """
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
