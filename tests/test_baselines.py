"""What needs no hidden states: the values against hand-computed ones, and scores that saw nothing of their fold."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_answer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.probing.baselines import CONFIDENCES, MEANINGS, Baseline, baseline_scores, compute_baselines
from probemap.records import Answer, Example, Judgement, MapError, RunError, Span, Task, Verdict

TASK = Task(
    "t",
    (
        Example("a", "Where is Quito?", ("Ecuador",)),
        Example("b", "And Ñuñoa?", ("Chile",), context="A map."),
        Example("c", "And Lima?", ("Peru",)),
        Example("d", "", ("Peru",)),
    ),
    "names",
)
PROMPT = ["Where", " is", "?"]


def make(tokens: list[str], logprobs: list[float], id_: str, *, stopped: bool = True) -> Answer:
    answer = make_answer("".join(tokens), tokens, PROMPT, stopped=stopped, id_=id_)
    return replace(answer, logprobs=tuple(logprobs), entropies=tuple(-value / 2 for value in logprobs))


ANSWERS = [
    make(["In", " San", " José", ".", ""], [-1.0, -0.5, -0.25, -2.0, -9.0], "a"),
    make(["In", " Chi", "le"], [-3.0, -0.5, -1.5], "b", stopped=False),
    make([""], [-4.0], "c"),
    make(["No", "\n"], [-0.5, -0.75], "d"),
]
RIGHT = Verdict(True, "names an accepted answer")
JUDGEMENTS = [
    Judgement("a", RIGHT, Span(4, 6, "San José")),
    Judgement("b", RIGHT, Span(4, 6, "Chile")),
    Judgement("c", Verdict(None, "empty"), None, "empty"),
    Judgement("d", Verdict(None, "refusal"), None, "refusal"),
]
NAN = float("nan")


def test_compute_baselines_hand_computed() -> None:
    made = {b.name: b for b in compute_baselines(TASK, ANSWERS, JUDGEMENTS, np.array([0.1, 0.2, 0.3, 0.4]))}
    expected: dict[str, list[float]] = {
        # The end's -9 and -4 count nowhere; the line break that ended "d" is one of its characters.
        "logprob_mean": [-3.75 / 4, -5 / 3, NAN, -0.625],
        "logprob_min": [-2.0, -3.0, NAN, -0.75],
        "logprob_max": [-0.25, -0.5, NAN, -0.5],
        # Token 4 is the second produced one: three tokens are the prompt.
        "exact_logprob_mean": [-0.375, -1.0, NAN, NAN],
        "exact_logprob_min": [-0.5, -1.5, NAN, NAN],
        "exact_logprob_max": [-0.25, -0.5, NAN, NAN],
        # The entropies are half of the negative log-probabilities, and are negated.
        "entropy_mean": [-3.75 / 8, -5 / 6, NAN, -0.3125],
        "entropy_max": [-1.0, -1.5, NAN, -0.375],
        "exact_entropy_mean": [-0.1875, -0.5, NAN, NAN],
        "exact_entropy_max": [-0.25, -0.75, NAN, NAN],
        "answer_length": [4, 3, 0, 2],
        "cut_off": [float(not answer.stopped) for answer in ANSWERS],
        "question_length": [15, 10, 9, 0],
        "p_true": [0.1, 0.2, 0.3, 0.4],
    }
    for name, values in expected.items():
        got = made[name].values
        assert isinstance(got, np.ndarray)
        assert got.dtype == np.float64
        assert got == pytest.approx(values, nan_ok=True), name
    assert made["question_words"].values == ["Where is Quito?", "A map.\nAnd Ñuñoa?", "And Lima?", ""]
    assert made["exact_answer_words"].values == ["san jose", "chile", None, None]
    assert [(b.name, b.meaning) for b in made.values()] == list(MEANINGS.items())[:-1]


def test_compute_baselines_without_p_true() -> None:
    names = [b.name for b in compute_baselines(TASK, ANSWERS, JUDGEMENTS)]
    assert names == [name for name in MEANINGS if name not in ("p_true", "input_embeddings")]
    assert [len(b.values) for b in compute_baselines(TASK, [], [])] == [0] * 12


def test_compute_baselines_without_entropies() -> None:
    without = [replace(answer, entropies=()) for answer in ANSWERS]
    names = [b.name for b in compute_baselines(TASK, without, JUDGEMENTS)]
    assert names == [name for name in MEANINGS if "entropy" not in name and name not in ("p_true", "input_embeddings")]
    partly = {b.name: b.values for b in compute_baselines(TASK, [without[0], *ANSWERS[1:]], JUDGEMENTS)}
    assert partly["entropy_max"] == pytest.approx([NAN, -1.5, NAN, -0.375], nan_ok=True)
    assert partly["exact_entropy_max"] == pytest.approx([NAN, -0.75, NAN, NAN], nan_ok=True)


def test_compute_baselines_with_input_embeddings() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    *others, last = compute_baselines(TASK, ANSWERS, JUDGEMENTS, input_embeddings=vectors)
    assert [b.name for b in others] == [name for name in MEANINGS if name not in ("p_true", "input_embeddings")]
    assert (last.name, last.meaning) == ("input_embeddings", MEANINGS["input_embeddings"])
    np.testing.assert_array_equal(last.values, vectors)
    with pytest.raises(RunError, match="got 3 input embeddings for 4 answers"):
        compute_baselines(TASK, ANSWERS, JUDGEMENTS, input_embeddings=vectors[:3])


def test_confidences_need_no_training() -> None:
    assert (*tuple(MEANINGS)[:10], "p_true") == CONFIDENCES


def test_compute_baselines_ignores_verdicts() -> None:
    other = [replace(j, verdict=Verdict(False, "names another answer")) for j in JUDGEMENTS]
    for one, two in zip(
        compute_baselines(TASK, ANSWERS, JUDGEMENTS), compute_baselines(TASK, ANSWERS, other), strict=True
    ):
        np.testing.assert_array_equal(one.values, two.values)


def test_compute_baselines_rejects_mismatched_inputs() -> None:
    with pytest.raises(RunError, match="the judgements do not match the answers"):
        compute_baselines(TASK, ANSWERS, JUDGEMENTS[::-1])
    with pytest.raises(RunError, match=r"got 3 values of p\(True\) for 4 answers"):
        compute_baselines(TASK, ANSWERS, JUDGEMENTS, np.zeros(3))
    with pytest.raises(RunError, match="answer 'd' does not match any question in the task t"):
        compute_baselines(replace(TASK, examples=TASK.examples[:3]), ANSWERS, JUDGEMENTS)


# --- scores ---


def out_of_fold(baseline: Baseline, correct: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each answer's score, (n,), from the probe fitted without its fold."""
    parts = np.unique(fold)
    scores = baseline_scores(baseline, correct, np.stack([fold != part for part in parts]))
    return np.asarray(scores[np.searchsorted(parts, fold), np.arange(len(fold))], np.float64)


def folds_of(n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(n, dtype=np.int64) % 5


def test_baseline_scores_of_informative_words() -> None:
    draw = np.random.default_rng(0)
    countries = ["france", "japan", "peru", "chile", "côte d ivoire", "new zealand"]
    which = draw.integers(6, size=300)
    texts: list[str | None] = [countries[i] for i in which]
    correct = which < 3
    scores = out_of_fold(Baseline("exact_answer_words", "", texts), correct, folds_of(300))
    assert roc_auc_score(correct, scores) == 1.0
    noisy = correct ^ (draw.random(300) < 0.1)
    scores = out_of_fold(Baseline("exact_answer_words", "", texts), noisy, folds_of(300))
    assert 0.86 < roc_auc_score(noisy, scores) < 0.94, "a tenth of the verdicts is turned over"


def test_baseline_scores_of_uninformative_words() -> None:
    draw = np.random.default_rng(1)
    texts: list[str | None] = [f"land {i}" for i in draw.integers(6, size=2000)]
    correct = draw.random(2000) < 0.4
    scores = out_of_fold(Baseline("exact_answer_words", "", texts), correct, folds_of(2000))
    assert 0.45 < roc_auc_score(correct, scores) < 0.55


def test_baseline_scores_use_sets_of_lower_case_words() -> None:
    texts: list[str | None] = ["X y", "x", "x x X", "y", "Y-z", "y"] * 5
    correct = np.array([True, True, True, False, False, False] * 5)
    fold = np.repeat(np.arange(5), 6).astype(np.int64)
    scores = out_of_fold(Baseline("question_words", "", texts), correct, fold)
    # Columns x, y, z; every fold's training rows are four times these six.
    table = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 1, 0]])
    probe = LogisticRegression(C=1.0, tol=1e-8).fit(np.tile(table, (4, 1)), np.tile(correct[:6], 4))
    assert scores == pytest.approx(np.tile(probe.decision_function(table), 5), abs=1e-3)
    assert scores[1] == scores[2], "x and x x X are the same words"


def test_baseline_scores_ignore_words_of_one_fold() -> None:
    """A word that marks the right answers of one fold is learnt by the others' probes and useless in its own."""
    draw = np.random.default_rng(2)
    correct, fold = draw.random(200) < 0.5, folds_of(200)
    plain: list[str | None] = [f"land {i}" for i in draw.integers(4, size=200)]
    marked: list[str | None]
    marked = [f"{t} secret secret" if f == 3 and c else t for t, f, c in zip(plain, fold, correct, strict=True)]
    before = out_of_fold(Baseline("question_words", "", plain), correct, fold)
    after = out_of_fold(Baseline("question_words", "", marked), correct, fold)
    assert after[fold == 3].tolist() == before[fold == 3].tolist()
    assert not np.allclose(after[fold != 3], before[fold != 3])


def test_baseline_scores_are_out_of_fold() -> None:
    draw = np.random.default_rng(3)
    correct, fold = draw.random(100) < 0.5, folds_of(100)
    turned = np.where(fold == 2, ~correct, correct)
    values = draw.normal(size=100)
    texts: list[str | None] = [f"land {i}" for i in draw.integers(4, size=100)]
    for baseline in (Baseline("logprob_mean", "", values), Baseline("question_words", "", texts)):
        one, two = out_of_fold(baseline, correct, fold), out_of_fold(baseline, turned, fold)
        assert one[fold == 2].tolist() == two[fold == 2].tolist()
        assert not np.allclose(one[fold != 2], two[fold != 2])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_baseline_scores_learn_the_direction(sign: float) -> None:
    draw = np.random.default_rng(4)
    correct = draw.random(500) < 0.5
    values = sign * (draw.normal(size=500) + 1.5 * correct)
    scores = out_of_fold(Baseline("logprob_mean", "", values), correct, folds_of(500))
    assert roc_auc_score(correct, scores) == pytest.approx(0.8555, abs=0.03)  # Φ(1.5 / √2)
    assert roc_auc_score(correct, scores) == pytest.approx(roc_auc_score(correct, sign * values), abs=0.005)


def test_baseline_scores_are_invariant_to_scale() -> None:
    draw = np.random.default_rng(5)
    correct = draw.random(80) < 0.5
    values = draw.normal(size=80) + correct
    one = out_of_fold(Baseline("question_length", "", values), correct, folds_of(80))
    two = out_of_fold(Baseline("question_length", "", 1000 * values + 5000), correct, folds_of(80))
    assert two == pytest.approx(one, abs=1e-6)
    fold = folds_of(80)
    training = values[fold != 0]
    z = (values - training.mean()) / training.std()
    probe = LogisticRegression(C=1.0).fit(z[fold != 0, None], correct[fold != 0])
    assert one[fold == 0] == pytest.approx(probe.decision_function(z[fold == 0, None]), abs=2e-3)


def test_baseline_scores_ignore_missing_rows() -> None:
    draw = np.random.default_rng(6)
    correct, fold = draw.random(60) < 0.5, folds_of(60)
    absent = draw.random(60) < 0.3
    values = draw.normal(size=60)
    texts: list[str | None] = [f"land {i}" for i in draw.integers(4, size=60)]
    pairs = [
        (Baseline("logprob_min", "", np.where(absent, NAN, values)), Baseline("logprob_min", "", values[~absent])),
        (
            Baseline("exact_answer_words", "", [None if a else t for t, a in zip(texts, absent, strict=True)]),
            Baseline("exact_answer_words", "", [t for t, a in zip(texts, absent, strict=True) if not a]),
        ),
    ]
    for holed, kept in pairs:
        scores = out_of_fold(holed, correct, fold)
        assert np.isnan(scores).tolist() == absent.tolist()
        assert scores[~absent].tolist() == out_of_fold(kept, correct[~absent], fold[~absent]).tolist()


def test_baseline_scores_need_two_of_each_class() -> None:
    # Right answers: two in fold 0, one in fold 1, none in fold 2.
    correct = np.array([True, True, False, False, True, False, False, False, False])
    fold = np.repeat(np.arange(3), [4, 3, 2]).astype(np.int64)
    values = np.arange(9.0)
    texts: list[str | None] = [str(i) for i in range(9)]
    for baseline in (Baseline("answer_length", "", values), Baseline("question_words", "", texts)):
        scores = out_of_fold(baseline, correct, fold)
        assert np.isnan(scores).tolist() == [True] * 4 + [False] * 5, "outside of fold 0 one answer is right"
        assert np.isnan(out_of_fold(baseline, np.ones(9, dtype=np.bool_), fold)).all()
        assert np.isnan(out_of_fold(baseline, np.zeros(9, dtype=np.bool_), fold)).all()
    alone = np.where(np.arange(9) == 4, 1.0, NAN)
    assert np.isnan(out_of_fold(Baseline("p_true", "", alone), correct, fold)).all()
    nothing: list[str | None] = [None] * 9
    assert np.isnan(out_of_fold(Baseline("exact_answer_words", "", nothing), correct, fold)).all()


def test_baseline_scores_of_texts_without_words() -> None:
    draw = np.random.default_rng(7)
    correct, fold = draw.random(50) < 0.5, folds_of(50)
    texts: list[str | None] = ["", "?!", " \n", "…", "-"] * 10
    scores = out_of_fold(Baseline("question_words", "", texts), correct, fold)
    assert scores.tolist() == [0.0] * 50
    assert roc_auc_score(correct, scores) == 0.5
    # Words in one fold only: its own probe has none to learn from, the others learn nothing for their wordless rows.
    some: list[str | None] = [f"land {i}" if f == 1 else "" for i, f in enumerate(fold)]
    scores = out_of_fold(Baseline("question_words", "", some), correct, fold)
    assert scores[fold == 1].tolist() == [0.0] * 10
    assert [len(set(scores[fold == f].tolist())) for f in range(5)] == [1] * 5


def test_baseline_scores_count_single_letters_as_words() -> None:
    texts: list[str | None] = ["京", "5", "b", "é"] * 5
    correct = np.array([True, True, False, False] * 5)
    fold = np.repeat(np.arange(5), 4).astype(np.int64)
    assert roc_auc_score(correct, out_of_fold(Baseline("question_words", "", texts), correct, fold)) == 1.0


def test_baseline_scores_of_a_constant() -> None:
    correct = np.array([True, False, True, False] * 5)
    fold = np.repeat(np.arange(5), 4).astype(np.int64)
    scores = out_of_fold(Baseline("answer_length", "", np.full(20, 28.0)), correct, fold)
    assert scores == pytest.approx(np.zeros(20), abs=1e-9), "half of the training rows are right: even odds"


def test_baseline_scores_of_vectors_are_those_of_a_regression_on_standardised_features() -> None:
    draw = np.random.default_rng(8)
    correct, fold = draw.random(300) < 0.4, folds_of(300)
    vectors = (draw.normal(size=(300, 40)) * np.arange(1, 41) + 100).astype(np.float32)
    vectors[:, 7] += 12 * correct
    vectors[::30, 5] = np.nan
    baseline = Baseline("input_embeddings", "", vectors)
    present = np.arange(300) % 30 != 0
    assert baseline.present.tolist() == present.tolist()
    scores = out_of_fold(baseline, correct, fold)
    assert np.isnan(scores).tolist() == (~present).tolist()
    train, test = present & (fold != 2), present & (fold == 2)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, tol=1e-8)).fit(vectors[train], correct[train])
    assert scores[test] == pytest.approx(probe.decision_function(vectors[test]), abs=2e-3)
    assert roc_auc_score(correct[test], scores[test]) > 0.75
    turned = np.where(fold == 2, ~correct, correct)
    assert out_of_fold(baseline, turned, fold)[test] == pytest.approx(scores[test], abs=1e-3)


def test_baseline_scores_of_vectors_need_two_of_each_class() -> None:
    correct = np.array([True, True, False, False, True, False, False, False, False])
    fold = np.repeat(np.arange(3), [4, 3, 2]).astype(np.int64)
    vectors = np.random.default_rng(9).normal(size=(9, 3))
    scores = out_of_fold(Baseline("v", "", vectors), correct, fold)
    assert np.isnan(scores).tolist() == [True] * 4 + [False] * 5
    assert np.isnan(out_of_fold(Baseline("v", "", vectors), np.ones(9, dtype=np.bool_), fold)).all()
    with pytest.raises(MapError, match="v contains infinite values"):
        out_of_fold(Baseline("v", "", np.where(vectors == vectors[0, 0], np.inf, vectors)), correct, fold)
    with pytest.raises(MapError, match="v contains values of type <U1, not numbers"):
        Baseline("v", "", np.array([["a", "b"]]))


def test_baseline_scores_reject_invalid_values() -> None:
    correct, fold = np.array([True, False] * 5), folds_of(10)
    with pytest.raises(MapError, match="p_true has 9 values for 10 labels and 10 training rows"):
        out_of_fold(Baseline("p_true", "", np.zeros(9)), correct, fold)
    with pytest.raises(MapError, match="p_true contains infinite values"):
        out_of_fold(Baseline("p_true", "", np.array([-np.inf, *np.zeros(9)])), correct, fold)
