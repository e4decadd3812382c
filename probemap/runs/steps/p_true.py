"""The p-true step on a run directory: the model's own probability that its answers are true."""

from probemap.logger import SILENT, Logger
from probemap.models.loading import Loader, Models
from probemap.records import PTrueScore, RunError
from probemap.runs.integrity import answer_inputs, answers_of, check_weights, loader_of, read_answers
from probemap.runs.run import Run

_ASKED_AT_ONCE = 128
"""Answers after which what was found is on disk."""


def ask_p_true(
    run: Run,
    *,
    exact: bool = False,
    loader: Loader | None = None,
    batch_size: int = 32,
    redo: bool = False,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> None:
    """Ask the model whether its own answers are true; writes ``p_true.jsonl``, a baseline of the map.

    Parameters
    ----------
    exact: show it the exact answer alone, of the answers that have one; writes ``p_true_exact.jsonl``.
    loader: of the model; None is the one that answered.
    """
    step = "p-true --exact" if exact else "p-true"
    with run.locked():
        if exact:
            task, answers, judgements = read_answers(run)
            asked = [(e, j.span.text) for e, j in zip(task.examples, judgements, strict=True) if j.span]
        else:
            task = run.task()
            answers = answers_of(run, task)
            asked = [(e, a.final.text) for e, a in zip(task.examples, answers, strict=True)]
        inputs = answer_inputs(run) | ({"verdicts.jsonl": run.sha256("verdicts.jsonl")} if exact else {})
        with run.making(step, options={}, inputs=inputs, redo=redo, log=logger.log) as needed:
            if not needed:
                return
            if not asked:
                raise RunError("no answer has an exact answer", "p(True) of exact answers says nothing here")
            from probemap.models.p_true import score_p_true

            model = (loader or loader_of(run)).load({} if models is None else models)
            check_weights(run, model, ("revision",))
            begun = run.begun_p_true(exact)
            if begun:
                logger.log(f"{begun} of {len(asked)} answers have been asked about already")
            for start in range(begun, len(asked), _ASKED_AT_ONCE):
                part = asked[start : start + _ASKED_AT_ONCE]
                found = score_p_true(model, part, batch_size=batch_size, log=logger.log)
                logger.progress("p(True)", start + len(part), len(asked))
                run.append_p_true(
                    [PTrueScore(example.id, float(p)) for (example, _), p in zip(part, found, strict=True)], exact
                )
