"""What a run folder holds, read and checked: do answers, verdicts, states and map still belong together?"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from probemap.mentions import fold
from probemap.models.loading import Loader
from probemap.positions import Indices, digest, token_indices
from probemap.records import Answer, Example, Judgement, RunError, StoreError, Task
from probemap.runs.answer_file import AnswerFile
from probemap.runs.folder import again
from probemap.runs.run import Run

if TYPE_CHECKING:
    from probemap.activations.store import ActivationStore
    from probemap.maps.probe_map import ProbeMap


_P_TRUE_LATER = ("p_true.jsonl", "")


def answers_of(run: Run, task: Task) -> AnswerFile:
    """One answer per question, in the order of the questions."""
    answers = run.answers()
    there = set(answers.ids)
    if missing := [e.id for e in task.examples if e.id not in there]:
        raise RunError(
            f"{len(missing)} questions have no answer, first {missing[0]!r}",
            f"{again('answer', run.path)} asks them again",
        )
    return answers.in_order([e.id for e in task.examples])


def read_answers(run: Run) -> tuple[Task, AnswerFile, list[Judgement]]:
    """Task, answers and judgements of a run, all in the order of the questions.

    Raises
    ------
    RunError: one of them is missing, damaged, or speaks of other answers.
    """
    task = run.task()
    answers = answers_of(run, task)
    judgements = run.judgements()
    _refuse_changed(run, "judge", "the verdicts were made", "makes them again and keeps the old ones")
    if [j.id for j in judgements] != answers.ids:
        raise RunError(
            f"{run.path / 'verdicts.jsonl'} does not hold one line per question, in their order",
            f"{again('judge', run.path)} makes it again",
        )
    for said, made in zip(answers, judgements, strict=True):
        if made.span and not said.n_prompt <= made.span.start < made.span.stop <= len(said.token_ids):
            raise RunError(
                f"verdicts.jsonl: the exact answer of {made.id!r} lies outside of its answer",
                "mend its start and stop, or set span to null",
            )
    return task, answers, judgements


def _refuse_changed(run: Run, step: str, made: str, mend: str) -> None:
    """Refuse what a step made if files that it was made from have changed since."""
    before = run.step(step)["inputs"]
    if changed := [name for name, content in before.items() if run.sha256(name) != content]:
        raise RunError(f"{' and '.join(changed)} changed since {made}", f"{again(step, run.path)} {mend}")


def states_of(run: Run, answers: Sequence[Answer], judgements: list[Judgement]) -> "ActivationStore":
    """The run's states, if they belong to these answers and exact answers."""
    from probemap.activations.store import ActivationStore

    store = ActivationStore.open(run.path / "activations")
    check_states(run, store, answers, token_indices(answers, [j.span for j in judgements], store.layout.positions))
    return store


def check_states(run: Run, store: "ActivationStore", answers: Sequence[Answer], indices: Indices) -> None:
    """Refuse states that were captured for other answers, or at other tokens."""
    if store.layout.made_from != digest(answers, indices):
        raise RunError(
            "the states were captured for other answers or exact answers than the folder now holds",
            f"{again('capture', run.path)} captures them again and keeps the old ones",
        )


def read_p_true_exact(run: Run, answers: Sequence[Answer]) -> list[float]:
    """p(True) of the exact answers, in the order of the answers; NaN where there is none.

    Raises
    ------
    RunError: missing or damaged, or verdicts and exact answers have changed since.
    """
    rows = {row.id: row.p_true for row in run.p_true(exact=True)}
    _refuse_changed(run, "p-true --exact", "p(True) of the exact answers was asked for", "asks again")
    return [rows.get(a.id, float("nan")) for a in answers]


def read_p_true(run: Run, answers: Sequence[Answer]) -> list[float] | None:
    """p(True) of the answers, in their order; None if the model was not asked.

    Raises
    ------
    RunError: damaged, or it speaks of other answers.
    """
    if not run.is_done("p-true"):
        return None
    rows = run.p_true()
    if [row.id for row in rows] != [a.id for a in answers]:
        raise RunError(
            f"{run.path / 'p_true.jsonl'} does not hold one line per answer, in their order",
            f"{again('p-true', run.path)} makes it again",
        )
    return [row.p_true for row in rows]


def answer_inputs(run: Run) -> dict[str, str]:
    """Questions and answers, which verdicts and p(True) are made from, as hashes."""
    return {name: run.sha256(name) for name in ("task.json", "answers.jsonl")}


def refuse_paper_locator(run: Run) -> None:
    """Refuse exact answers whose place depends on the verdict, where they would tell it.

    Raises
    ------
    RunError: they were located by the paper's locator.
    """
    if run.step("judge").get("options", {}).get("locator") == "paper":
        raise RunError(
            f"in {run.path} the place of the exact answer depends on the verdict (--locator paper)",
            f"{again('judge', run.path)} with another locator",
        )


def questions_asked(task: Task) -> list[tuple[str, str]]:
    """Each question with its context, their words alone: case and spaces aside."""
    return [(" ".join(fold(e.question)[0].split()), " ".join(fold(e.context)[0].split())) for e in task.examples]


def question_groups(task: Task) -> list[str]:
    """For each question what must not be split between folds: its words, case and spaces aside, with their context."""
    return [" ".join(fold(e.question + e.context)[0].split()) for e in task.examples]


def map_inputs(run: Run, baselines: bool) -> dict[str, str]:
    """What a map is made from, as hashes."""
    from probemap.activations.store import ActivationStore

    return {
        "verdicts.jsonl": run.sha256("verdicts.jsonl"),
        **({"p_true.jsonl": run.sha256("p_true.jsonl")} if baselines else {}),
        "activations": ActivationStore.open(run.path / "activations").content_hash(),
    }


def read_map(run: Run, log: Callable[[str], None] = lambda text: None) -> "ProbeMap":
    """The run's map; says so if verdicts or states have changed since it was made."""
    from probemap.maps.probe_map import ProbeMap

    probe_map = ProbeMap.load(run.path / "map.nc")
    try:
        changed = _changed_since_map(run)
    except StoreError as error:
        log(f"whether map.nc is up to date cannot be told: {error.problem}")
        return probe_map
    if changed:
        log(f"{_older(changed)}\nhint: {again('map', run.path)} makes it again and keeps the old one")
    return probe_map


def read_scores(run: Run) -> "ProbeMap":
    """The run's map for its scores, which must be those of the verdicts and states that the folder now holds.

    Raises
    ------
    RunError: they are not, or there is no map.
    StoreError: there are no states.
    """
    from probemap.maps.probe_map import ProbeMap

    if not run.is_done("map"):
        raise RunError(f"{run.path} holds no map", f"{again('map', run.path, redo=False)} makes it")
    # p(True) has a say in the map's baselines alone.
    if changed := [name for name in _changed_since_map(run) if name != "p_true.jsonl"]:
        raise RunError(_older(changed), f"{again('map', run.path)} makes it again and keeps the old one")
    return ProbeMap.load(run.path / "map.nc")


def _changed_since_map(run: Run) -> list[str]:
    step = run.step("map")
    now = map_inputs(run, bool(step.get("options", {}).get("baselines")))
    made = step.get("inputs", {})
    # p(True) that was asked for later is not in the map, and changes nothing in it.
    return [name for name, value in now.items() if made.get(name) != value and (name, made.get(name)) != _P_TRUE_LATER]


def _older(changed: Sequence[str]) -> str:
    return f"map.nc was made before {' and '.join(changed)} changed"


def one_answer(run: Run, id_: str | None = None) -> tuple[Example, Answer, Judgement]:
    """One question with its answer and judgement; the first if no id is given.

    Raises
    ------
    RunError: no such id.
    """
    task, answers, judgements = read_answers(run)
    ids = [e.id for e in task.examples]
    if id_ is not None and id_ not in ids:
        raise RunError(f"there is no answer {id_!r}", f"ids are those of {run.path / 'task.json'}, e.g. {ids[0]!r}")
    row = 0 if id_ is None else ids.index(id_)
    return task.examples[row], answers[row], judgements[row]


class Weights(Protocol):
    """What says which weights these are: a model, or who has loaded one."""

    @property
    def label(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dtype(self) -> str: ...


def check_weights(run: Run, model: Weights, facts: tuple[Literal["revision", "dtype"], ...]) -> None:
    """Refuse a model that is not the one whose answers, or whose first answers, the folder holds."""
    answered = run.step("answer")["facts"]
    for what in facts:
        now = str(getattr(model, what))
        if (before := answered.get(what, now)) != now:
            raise RunError(
                f"the answers in {run.path} came from other weights of {model.label} "
                f"({what} {before[:12]}, now {now[:12]})",
                "load the same weights, or start a new run folder",
            )


def loader_of(run: Run, device: str = "auto", dtype: str | None = None, max_memory: str | None = None) -> Loader:
    """The model that answered, with another dtype if one is given."""
    made, facts = run.step("answer")["options"], run.step("answer")["facts"]
    return Loader(made["model"], made["revision"], device, dtype or facts["dtype"], made.get("quantize"), max_memory)


def read_attention(run: Run, probe_map: "ProbeMap") -> "ProbeMap":
    """The map with the attention weights that its cells receive (`values.with_attention`).

    Raises
    ------
    RunError, StoreError: they were not captured yet, for other answers, or not at the map's positions.
    """
    from probemap.activations.store import ActivationStore
    from probemap.probing.metrics import with_attention

    if not run.is_done("attention"):
        raise RunError(
            f"{run.path} holds no attention weights", f"{again('attention', run.path, redo=False)} captures them"
        )
    _refuse_changed(run, "attention", "attention was captured", "captures it again and keeps the old one")
    store = ActivationStore.open(run.path / "attention")
    if lacking := [p for p in probe_map.positions if p not in store.layout.positions]:
        raise RunError(
            f"attention was captured at {', '.join(store.layout.positions)}, not at {', '.join(lacking)}",
            f"{again('attention', run.path)} with --positions, or draw other --positions",
        )
    columns = [store.layout.positions.index(p) for p in probe_map.positions]
    ids = [e.id for e in run.task().examples]
    return with_attention(probe_map, lambda layer: store.read_layer(layer)[:, columns], ids)
