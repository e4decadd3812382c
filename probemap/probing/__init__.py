"""Fit the probes of all cells, and compute AUCs and other statistics from their scores.

Each module imports only modules listed above it and modules from lower-level packages.

::

    logistic          regularised logistic regression for many problems at once
    auc               AUCs of several scores on the same answers, with the influence of each answer
    inference         joint inference from influences: intervals, bands, comparisons, confidence set of the best cell
    inputs            conversion of user-supplied labels, groups, masks and names to plain values
    folds             cross-validation folds
    c_values          C values, the inverse strengths of the L2 penalty
    activation_norm   norms of the hidden states
    plan              training sets and C values of a cell's probes
    random_labels     permuted labels for the null distribution, and labels of the control task
    variance          variance inflation of cross-validated AUCs
    cell_scores       out-of-fold scores for a few cells
    stacking          regressions on a few scores of each answer, fitted and evaluated on different folds
    baselines         baselines without hidden states: log-probability, length, words
    cells             AUCs of all cells, computed from their scores
    nested            AUC of the best cell, estimated by nested cross-validation
    dataset           the data set of a map: scores, AUCs, intervals and bands
    cell_map          CellMap: one AUC per cell with its uncertainty
    metrics           other values of a cell: accuracy, calibration, activation norm, attention
    difference        differences between two maps
    resampling        bootstrap resamples of the questions, and percentiles of their metrics
    threshold_counts  accepted answers and errors by threshold, in bootstrap resamples
    selective         metrics of scores as predictors of correct answers: selective answering, flagging, calibration
    bootstrap         all these metrics with bootstrap intervals
    fold_ranking      those of these metrics that depend only on ranks, for out-of-fold scores
"""
