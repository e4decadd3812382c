"""Fit a map to hidden states and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from probemap.activations.source import ActivationSource, as_source
from probemap.maps.layers import LayerFit, LayerFitter
from probemap.maps.probe_map import ProbeMap
from probemap.probing.activation_norm import NORM_VARIABLES
from probemap.probing.auc import MIN_PER_CLASS
from probemap.probing.c_values import parse_c
from probemap.probing.cells import CELL_DIMS
from probemap.probing.dataset import MapScores, map_dataset, selectivity
from probemap.probing.folds import assign_folds, group_numbers, hold_out
from probemap.probing.inputs import Column, Labels, elements, parse_identities, parse_labels, parse_mask, parse_names
from probemap.probing.plan import HELD_OUT, ProbePlan
from probemap.probing.random_labels import control_labels, permuted_labels
from probemap.records import MapError, TooFewError

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints

CONTROL_SETS = 2
"""Number of label sets for the control task.  In the demo, each takes about a tenth of the time of the map."""

MapLayers = Callable[[Callable[[int], LayerFit], Sequence[int]], Iterable[LayerFit]]
"""A function with the interface of the built-in ``map``."""


def fit_map(
    activations: Any,
    correct: Labels,
    *,
    groups: Column | None = None,
    present: npt.ArrayLike | None = None,
    layers: Column | None = None,
    positions: Column | None = None,
    folds: int = 5,
    repeats: int = 1,
    c: float | str | Sequence[float] = 1.0,
    held_out: float | npt.ArrayLike | None = None,
    probe: Any = None,
    permutations: int = 0,
    identities: Column | None = None,
    common_rows: bool = False,
    nested: bool = True,
    device: str = "auto",
    map_layers: MapLayers = map,
    seed: int = 0,
    ids: Column | None = None,
    attrs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProbeMap:
    """Fit one linear probe per (layer, position) cell and evaluate it on answers that it was not fitted on.

    Labels, groups, masks and names may be lists, NumPy arrays, torch tensors, or columns of a pandas, polars or Arrow
    table.  They are matched to the states by row order; the index of a pandas object is ignored.

    Parameters
    ----------
    activations : Activations, ActivationStore, or array of shape (n, n_layers, n_positions, d)
        Hidden states, which are read one layer at a time.  Any array type that supports ``array[:, layer]`` can be
        used, e.g. NumPy, memory-mapped, torch or zarr arrays.  If an answer lacks a position, all values of that state
        must be NaN.
    correct : array-like of shape (n,), or list of Verdict
        Labels of the answers: True or 1 for correct answers, and False or 0 for incorrect answers.  Undecided answers
        (None, NaN or ``pandas.NA``) are excluded.
    groups : array-like of shape (n,), optional
        Group of each answer.  Answers in the same group, e.g. answers to the same question, are assigned to the same
        fold and count as one independent observation.  By default, every answer is its own group.
    present : array-like of shape (n, n_positions), bool, optional
        Whether each answer has each position.  By default, an answer has a position if the state there is not NaN.
    layers : sequence of int, optional
        For captured states, the layers to fit.  For an array, the numbers of its layers (default: 0, 1, …).
    positions : sequence of str, optional
        For captured states, the positions to fit.  For an array, the names of its positions.  By default, they are
        ``probemap.positions.DEFAULT_POSITIONS`` if the array has the same number of positions, and ``"0"``, ``"1"``, …
        otherwise.
    folds : int, default=5
        Number of cross-validation folds, which are stratified by label.
    repeats : int, default=1
        Number of times the cross-validation is repeated with different folds.  AUCs are averaged over the repetitions.
    c : float, str or sequence of float, default=1.0
        Inverse strength of the L2 penalty, as in scikit-learn.  If several values are given, the one with the highest
        AUC over the inner folds is selected for each outer fold of each cell.  ``"auto"`` stands for seven values from
        1e-4 to 100.
    held_out : float or array-like of shape (n,), bool, optional
        Held-out answers, given as a mask or as the fraction of groups to hold out at random.  Probes are evaluated only
        on the held-out answers, and the folds are formed from the other answers.  By default, no answers are held out,
        and every answer is scored by the probe that was fitted without its fold.
    probe : scikit-learn classifier, optional
        Classifier with a ``decision_function`` method.  It is fitted to the unscaled states, once per training set and
        cell.  By default, the probes are L2-regularised logistic regressions on standardised states, and the
        probes for all training sets are fitted together.
    permutations : int, default=0
        Number of label permutations used to estimate the null distribution of the highest AUC in the map
        (``permutation_null``).
    identities : array-like of shape (n,), optional
        Identity of each answer, e.g. its exact answer, or None.  If given, probes are also fitted to a control task,
        in which all answers with the same identity have the same random label.  The selectivity of a cell is its AUC
        minus the AUC for the control task: a cell that only memorises which identities are correct has a selectivity
        of 0.
    common_rows : bool, default=False
        Whether to use only the answers that have all positions, so that every column is evaluated on the same answers.
    nested : bool, default=True
        Whether to fit probes for the inner folds, which `ProbeMap.nested_best` requires.
    device : str, default="auto"
        Torch device.  ``"auto"`` selects CUDA if it is available, otherwise all cores of the CPU.
    map_layers : callable, default=map
        Function with the interface of the built-in ``map``.  It is called with a function that fits one layer, and with
        the indices of the layers.  To distribute the layers over processes, pass the ``map`` method of a process pool
        that serialises with cloudpickle.
    seed : int, default=0
        Random seed for folds, permutations, the choice of held-out groups, and the bootstrap.
    ids : array-like of shape (n,), optional
        Unique names of the answers.  By default, the ids of `activations` are used if it has any, and the row numbers
        otherwise.
    attrs : mapping, optional
        Information about the origin of the answers, e.g. ``model`` and ``task``.  It is stored in
        ``ProbeMap.data.attrs`` and shown in figures.
    progress : callable, optional
        Function that is called after each layer with the number of fitted layers and the total number of layers.

    Returns
    -------
    ProbeMap

    Raises
    ------
    MapError
        If the labels do not match the states or cannot be read, if a state is not finite, or if an option is invalid.
    TooFewError
        If the labels contain only one class, if a class has fewer answers than there are folds, or if no column has at
        least 10 correct and 10 incorrect answers.  TooFewError is a subclass of MapError.

    Examples
    --------
    Fit a map to the states of 200 answers at 3 layers and 2 positions.  Only the states of layer 1 at the second
    position encode the label:

    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(200) < 0.5
    >>> states = rng.normal(size=(200, 3, 2, 8)).astype(np.float32)
    >>> states[:, 1, 1, 0] += 2 * correct
    >>> probe_map = probemap.fit_map(states, correct, positions=["last_q", "exact_answer_last"])
    >>> best = probe_map.best()[0]
    >>> best.layer, best.position
    (1, 'exact_answer_last')
    >>> probe_map.auc.shape
    (3, 2)
    >>> probe_map.nested_best().auc > 0.85
    True
    """
    source = as_source(
        activations,
        None if layers is None else elements(layers, "layers"),
        None if positions is None else elements(positions, "positions"),
    )
    names = source.ids if ids is None else parse_names(ids, source.n, "ids")
    rows, labels = _decided(parse_labels(correct, source.n))
    group_of = group_numbers(groups, source.n)
    group = np.unique(group_of[rows], return_inverse=True)[1].astype(np.int64)
    is_held_out = hold_out(held_out, group_of, seed)[rows]
    c_values = parse_c(c)
    # Probes of inner folds are fitted without two folds, so with 2 folds no training answers would remain.
    can_nest = folds > 2 or bool(is_held_out.any())
    if len(c_values) > 1 and not can_nest:
        raise MapError(
            "several C values require inner folds, which are not possible with 2 folds", "use 3 or more folds"
        )
    plans = [
        ProbePlan(
            fold=_assign_folds(labels, group, folds, seed + repeat, is_held_out),
            c_values=c_values,
            nested=can_nest and (nested or len(c_values) > 1),
            probe=probe,
            device=device,
        )
        for repeat in range(repeats)
    ]
    label_sets = permuted_labels(labels, group, permutations, seed)
    if identities is not None:
        names_of_identities = parse_identities(identities, source.n)
        control = control_labels(labels, [names_of_identities[row] for row in rows], CONTROL_SETS, seed)
        label_sets = np.concatenate([label_sets, control])
    fit_layer = LayerFitter(
        source=source,
        rows=rows,
        present=None if present is None else parse_mask(present, (source.n, len(source.positions)), "present")[rows],
        common_rows=common_rows,
        labels=labels,
        group=group,
        plans=plans,
        label_sets=label_sets,
    )
    arrays = _CellArrays.empty(source, plans, len(rows), len(label_sets))
    for row, layer in enumerate(map_layers(fit_layer, range(len(source.layers)))):
        arrays.put(row, layer)
        progress(row + 1, len(source.layers))
    if np.isnan(arrays.scores).all():
        raise TooFewError(
            f"no column has at least {MIN_PER_CLASS} correct and {MIN_PER_CLASS} incorrect answers",
            "use more questions",
        )
    scores = MapScores(
        scores=arrays.scores,
        correct=labels,
        group=group,
        fold=np.stack([plan.fold for plan in plans]),
        variance_inflation=arrays.variance_inflation,
        present=arrays.present,
        answers=[str(row) if names is None else names[row] for row in rows.tolist()],
        layers=source.layers,
        positions=source.positions,
    )
    all_attrs = {
        "numbered_answers": int(names is None),
        **source.attrs,
        **(attrs or {}),
        "answers": source.n,
        "decided": len(labels),
        "right": int(labels.sum()),
        "folds": folds,
        "repeats": repeats,
        "c": "auto" if c == "auto" else ", ".join(f"{value:g}" for value in c_values),
        "probe": "" if probe is None else " ".join(repr(probe).split()),
        "held_out": int(is_held_out.sum()),
        "common_rows": int(common_rows),
        "seed": seed,
    }
    data = map_dataset(scores, all_attrs, arrays.variables(plans[0], permutations))
    return ProbeMap(data.assign(selectivity(data, arrays.label_set_auc[permutations:])))


@dataclass(frozen=True, kw_only=True)
class _CellArrays:
    """Arrays that hold the results of all cells.  They are filled layer by layer."""

    scores: npt.NDArray[np.float32]
    """ndarray of shape (n_repeats, n, n_layers, n_positions)."""
    fold_scores: npt.NDArray[np.float32]
    """ndarray of shape (n_repeats, n_outer_folds, n, n_layers, n_positions), or an empty array without inner folds."""
    inner_auc: npt.NDArray[np.float32]
    """ndarray of shape (n_repeats, n_outer_folds, n_layers, n_positions)."""
    c: Floats
    """ndarray of shape (n_layers, n_positions)."""
    converged: Bools
    """ndarray of shape (n_layers, n_positions)."""
    variance_inflation: Floats
    """ndarray of shape (n_layers, n_positions)."""
    label_set_auc: Floats
    """ndarray of shape (n_label_sets, n_layers, n_positions): AUC for each set of random labels."""
    activation_norms: Floats
    """ndarray of shape (len(NORM_VARIABLES), n_layers, n_positions)."""
    present: Bools
    """ndarray of shape (n, n_positions)."""

    @classmethod
    def empty(cls, source: ActivationSource, plans: Sequence[ProbePlan], n: int, n_label_sets: int) -> _CellArrays:
        shape = (len(source.layers), len(source.positions))
        folds = (len(plans), len(plans[0].outer_folds))
        return cls(
            scores=np.full((len(plans), n, *shape), np.nan, np.float32),
            fold_scores=np.full((*folds, n if plans[0].nested else 0, *shape), np.nan, np.float32),
            inner_auc=np.full((*folds, *shape), np.nan, np.float32),
            c=np.full(shape, np.nan),
            converged=np.ones(shape, np.bool_),
            variance_inflation=np.full(shape, np.nan),
            label_set_auc=np.full((n_label_sets, *shape), np.nan),
            activation_norms=np.full((len(NORM_VARIABLES), *shape), np.nan),
            present=np.zeros((n, shape[1]), np.bool_),
        )

    def put(self, row: int, layer: LayerFit) -> None:
        """Store the results of one layer."""
        self.present[:] |= layer.present
        self.activation_norms[:, row] = layer.activation_norms
        for column, by_plan in enumerate(layer.cells):
            cells = [cell for cell in by_plan if cell is not None]
            if len(cells) < len(by_plan):
                continue
            self.scores[:, :, row, column] = [cell.scores for cell in cells]
            if self.fold_scores.size:
                self.fold_scores[:, :, :, row, column] = [cell.fold_scores for cell in cells]
            self.inner_auc[:, :, row, column] = [cell.inner_auc for cell in cells]
            self.c[row, column] = np.median([cell.c for cell in cells])
            self.converged[row, column] = all(cell.converged for cell in cells)
            self.variance_inflation[row, column] = np.mean([cell.variance_inflation for cell in cells])
            self.label_set_auc[:, row, column] = np.mean([cell.label_set_auc for cell in cells], axis=0)

    def variables(self, plan: ProbePlan, permutations: int) -> dict[str, Any]:
        """Return the variables in the map that are not computed from the scores."""
        variables: dict[str, Any] = {"c": (CELL_DIMS, self.c), "converged": (CELL_DIMS, self.converged)}
        variables |= {name: (CELL_DIMS, norm) for name, norm in zip(NORM_VARIABLES, self.activation_norms, strict=True)}
        if plan.nested:
            variables["fold_scores"] = (("repeat", "outer_fold", "answer", *CELL_DIMS), self.fold_scores)
            variables["inner_auc"] = (("repeat", "outer_fold", *CELL_DIMS), self.inner_auc)
            variables["outer_fold"] = (("outer_fold",), np.array(plan.outer_folds, np.int32))
        if permutations:
            null = np.nanmax(self.label_set_auc[:permutations], axis=(1, 2))
            variables["permutation_null"] = (("permutation",), null)
        return variables


def _decided(correct: Sequence[bool | None]) -> tuple[Ints, Bools]:
    """Return the row numbers of the decided answers, and their labels.

    Raises
    ------
    TooFewError
        If no answer is decided, or if all decided answers have the same label.
    """
    rows = np.flatnonzero([label is not None for label in correct]).astype(np.int64)
    labels = np.array([bool(correct[row]) for row in rows.tolist()], np.bool_)
    if labels.all() or not labels.any():
        problem = (
            "no answer is decided"
            if not len(labels)
            else f"all {len(labels)} decided answers are {'correct' if labels.all() else 'incorrect'}"
        )
        raise TooFewError(
            f"{problem}: a map requires both correct and incorrect answers",
            "use questions that this model answers correctly between 20 % and 80 % of the time",
        )
    return rows, labels


def _assign_folds(labels: Bools, group: Ints, folds: int, seed: int, is_held_out: Bools) -> Ints:
    """Return the fold of each answer, or `HELD_OUT` if the answer is held out."""
    if is_held_out.any() and (labels[is_held_out].all() or not labels[is_held_out].any()):
        raise MapError("all held-out answers belong to one class", "hold out more answers")
    fold = np.full(len(labels), HELD_OUT, np.int64)
    fold[~is_held_out] = assign_folds(labels[~is_held_out], group[~is_held_out], folds, seed)
    return fold
