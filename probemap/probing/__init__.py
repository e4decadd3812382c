"""Probes of all cells, fitted together, and the statistics of their scores.

A module imports only modules listed above it, here and in the packages above.

::

    logistic     regularised logistic regression of many problems at once
    auc          AUC with its uncertainty, for one cell or for all cells jointly
    inputs       labels, groups, masks and names as users pass them, as arrays
    folds        cross-validation folds
    c_values     C values, the inverse strengths of the L2 penalty
    cell_scores  out-of-fold scores of the probes of each cell
    baselines    baselines without hidden states: log-probability, length, words
    cells        AUC of every cell and the nested-CV estimate of the best one
    cell_map     CellMap: one value per cell with its uncertainty
    metrics      other values of a cell: accuracy, calibration, activation norm, attention; differences of maps
"""
