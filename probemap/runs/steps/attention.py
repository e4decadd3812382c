"""The attention step on a run folder: how much attention each position receives."""

from probemap.logger import SILENT, Logger
from probemap.models.loading import Loader, Models
from probemap.positions import parse_positions, token_indices
from probemap.runs.integrity import check_weights, loader_of, read_answers
from probemap.runs.run import Run


def attend(
    run: Run,
    positions: str | None = None,
    *,
    batch_size: int = 8,
    batch_tokens: int | None = None,
    loader: Loader | None = None,
    redo: bool = False,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> None:
    """Attention weights at the named positions; writes ``attention/``, a store as of states, with
    `attention.QUERY_TOKENS` as its last axis.

    Parameters
    ----------
    batch_size: answers per batch, whose weights of one layer, heads × tokens × tokens each, are in memory at once.
    loader: of the model; None is the one that answered.

    Raises
    ------
    ModelError, RunError, StoreError
    """
    with run.locked():
        _, answers, judgements = read_answers(run)
        names = parse_positions(positions)
        with run.making(
            "attention",
            options={"positions": list(names)},
            inputs={name: run.sha256(name) for name in ("answers.jsonl", "verdicts.jsonl")},
            redo=redo,
            log=logger.log,
        ) as needed:
            if not needed:
                return
            from probemap.activations.attention import AttentionReader, attention_layout
            from probemap.activations.reader import fill_store
            from probemap.activations.store import ActivationStore

            spans = [j.span for j in judgements]
            indices = token_indices(answers, spans, names)
            model = (loader or loader_of(run)).load({} if models is None else models)
            check_weights(run, model, ("revision",))
            layout = attention_layout(model, answers, indices, spans, names)
            store = ActivationStore.create(run.path / "attention", layout)
            reader = AttentionReader(
                model=model,
                answers=answers,
                indices=indices,
                layout=layout,
                batch_size=batch_size,
                batch_tokens=batch_tokens,
                log=logger.log,
                spans=spans,
            )
            list(fill_store(store, reader, progress=lambda done, total: logger.progress("attention", done, total)))
