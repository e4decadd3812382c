"""Probes of all cells, fitted together, and the statistics of their scores.

A module imports only modules listed above it, here and in the packages above.

::

    logistic         regularised logistic regression of many problems at once
    auc              AUC with its influences, for several scores on the same answers
    inference        joint inference from influences: intervals, bands, comparisons, the confidence set of the best
    inputs           labels, groups, masks and names as users pass them, as arrays
    folds            cross-validation folds
    c_values         C values, the inverse strengths of the L2 penalty
    activation_norm  norms of the hidden states
    plan             training sets and C values of a cell's probes
    permutation      the permutation null: AUCs of permuted labels
    variance         variance inflation of cross-validated AUCs
    cell_scores      out-of-fold scores of the probes of a few cells
    baselines        baselines without hidden states: log-probability, length, words
    cells            AUCs of all cells from their scores
    nested           nested cross-validation of the best cell
    dataset          the data set of a map: scores, AUCs, intervals and bands
    cell_map         CellMap: one AUC per cell with its uncertainty
    metrics          other values of a cell: accuracy, calibration, activation norm, attention
    difference       differences of two maps
"""
