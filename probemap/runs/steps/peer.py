"""The peer step: compare the model's states with those of another model that reads the same answers."""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import TYPE_CHECKING

from probemap.records import RunError
from probemap.runs.definitions import ANSWER, CAPTURE
from probemap.runs.graded import normalized
from probemap.runs.plan import Context, Plan
from probemap.runs.run import Run
from probemap.runs.study_files import read_nested_map, write_table

if TYPE_CHECKING:
    from probemap.records import Answer
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import PeerOptions


def plan(run: Run, options: PeerOptions, context: Context) -> Plan[PeerOptions]:
    """Plan the peer step, which writes ``peer.json`` and ``peer.csv``.

    If both maps have the same layers, it also draws the premium of each cell in ``peer.png`` and ``peer.svg``.

    Raises
    ------
    RunError
        If a directory is given twice, if the peer did not read the answers of this run, if its verdicts differ, if the
        states come from different sites, if a map is missing, out of date or fitted without nested cross-validation, or
        if the peer's own answers come from another model or lack some of the questions.
    StoreError
        If no states have been captured.
    """
    peer = Run.open(options.peer)
    own = None if options.own is None else Run.open(options.own)
    _check_directories(run, peer, own)
    for item in (run, peer):
        read_nested_map(item)
    _check_sites(run, peer)
    _check_same_answers(run, peer)
    agreement = None if own is None else _agreement(run, peer, own)
    inputs = {"map.nc": run.sha256("map.nc"), "map of the peer": peer.sha256("map.nc")}
    if own is not None:
        inputs["own verdicts of the peer"] = own.sha256("verdicts.jsonl")
    return Plan(options=options, inputs=inputs, execute=partial(_execute, run, peer, agreement))


def _execute(run: Run, peer: Run, agreement: dict[str, bool | None] | None) -> bool:
    from probemap.studies.peer import have_same_layers, peer_table
    from probemap.views.heatmap import MapDisplay

    names = (_model(run), _model(peer))
    if names[0] == names[1]:  # e.g. two revisions of a model
        names = (names[0], f"{names[1]} ({peer.path.name})")
    own_map, peer_map = run.read_current_map(), peer.read_current_map()
    write_table(run, "peer", peer_table(own_map, peer_map, names=names, agreement=agreement))
    if have_same_layers(own_map, peer_map):
        display = MapDisplay.from_difference(own_map, peer_map, title=" minus ".join(names))
        for suffix in (".png", ".svg"):
            display.save(run.path / f"peer{suffix}")
    return True


def _check_directories(run: Run, peer: Run, own: Run | None) -> None:
    paths = [item.path.resolve() for item in (run, peer, own) if item is not None]
    if len(set(paths)) < len(paths):
        raise RunError(
            "one run directory is given twice",
            "pass the run of the model, then a run in which another model reads its answers, and with --own a run in "
            "which that model answers the questions itself",
        )


def _check_sites(run: Run, peer: Run) -> None:
    sites = [item.record(CAPTURE).options.site for item in (run, peer)]
    if sites[0] != sites[1]:
        raise RunError(
            f"the states of {peer.path} come from the site {sites[1]!r}, those of {run.path} from {sites[0]!r}",
            "capture both at the same site",
        )


def _check_same_answers(run: Run, peer: Run) -> None:
    """Raise RunError if the peer did not read the answers of the run, or if the answers have different verdicts."""
    graded, peer_graded = run.graded, peer.graded
    remedy = (
        f"make the peer's run with `probemap run DATA --model MODEL --out NEW --answers {run.path}`, with the same "
        "questions, --n and --seed as this run"
    )
    if differing := set(graded.ids) ^ set(peer_graded.ids):
        raise RunError(
            f"{run.path} and {peer.path} contain different questions: {len(differing)} of them, e.g. "
            f"{min(differing)!r}, are in only one of the runs",
            remedy,
        )
    texts = {answer.id: _text(answer) for answer in peer_graded.answers}
    if changed := [answer.id for answer in graded.answers if texts[answer.id] != _text(answer)]:
        raise RunError(
            f"{len(changed)} of {len(texts)} answers in {peer.path} differ from those in {run.path}; the first one is "
            f"the answer to {changed[0]!r}",
            remedy,
        )
    verdict_of = dict(zip(peer_graded.ids, peer_graded.correct, strict=True))
    verdicts = zip(graded.ids, graded.correct, strict=True)
    if regraded := [(id_, verdict) for id_, verdict in verdicts if verdict_of[id_] != verdict]:
        id_, verdict = regraded[0]
        raise RunError(
            f"{len(regraded)} of {len(texts)} answers have another verdict in {peer.path} than in {run.path}; the "
            f"first one, {id_!r}, is {_named(verdict_of[id_])} instead of {_named(verdict)}",
            remedy,
        )


def _text(answer: Answer) -> str:
    """Return the text of an answer, without what tokenizers and prompt formats change: its composition of characters,
    and the space at its beginning."""
    return unicodedata.normalize("NFC", answer.final.text.lstrip())


def _agreement(run: Run, peer: Run, own: Run) -> dict[str, bool | None]:
    """Return, for each question, whether both models answer it correctly or both incorrectly.

    The value is None if one of the two answers is undecided.
    """
    weights = [(item.record(ANSWER).facts.revision, item.record(ANSWER).options.quantize) for item in (peer, own)]
    if weights[0] != weights[1]:
        raise RunError(
            f"the answers in {own.path} come from {_model(own)}, but the states in {peer.path} from {_model(peer)}, or "
            "from other weights",
            "pass a run in which the model of the peer answers the questions itself",
        )
    graded, own_graded = run.graded, own.graded
    verdict_of = dict(zip(own_graded.ids, own_graded.correct, strict=True))
    question_of = _questions(own_graded)
    for id_, question in _questions(graded).items():
        if question_of.get(id_) != question:
            raise RunError(
                f"the question {id_!r} of {run.path} is missing in {own.path}, or is another question there",
                "let the other model answer the same questions, with the same --n and --seed",
            )
    pairs = {id_: (verdict, verdict_of[id_]) for id_, verdict in zip(graded.ids, graded.correct, strict=True)}
    return {id_: None if None in pair else pair[0] == pair[1] for id_, pair in pairs.items()}


def _questions(graded: GradedAnswers) -> dict[str, tuple[str, str]]:
    return {e.id: (normalized(e.question), normalized(e.context)) for e in graded.task.examples}


def _model(run: Run) -> str:
    return run.record(ANSWER).facts.model


def _named(correct: bool | None) -> str:
    return "undecided" if correct is None else "correct" if correct else "incorrect"
