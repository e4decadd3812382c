"""From hidden states and labels to a map: probes of all cells, fitted together.

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
    probe_map    ProbeMap: one value per cell with its uncertainty
    fit          fit_map: from hidden states to a map
    paper        the protocol of the paper's code, for comparison
    gain         gain of the map over the baselines
    metrics      other values of a cell: accuracy, calibration, activation norm, attention; differences of maps
"""
