"""Studies based on maps: error types, best-of-n, ranking of predictors, generalisation, and comparison with a peer.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    semantics       groups answers by meaning; computes semantic entropy
    error_types     the error taxonomy of Orgad et al. 2024 (types A to E)
    errors          probes that predict the error type of a question
    best_of_n       chooses one of several answers with the probe
    ranking         ranks all predictors of correctness on the same answers
    generalisation  evaluates the probe of one run on another run
    peer            compares the states of two models that read the same answers
    audit_draw      draws answers whose verdicts a person checks
    label_errors    error rates of verdicts, and the AUC that correct verdicts would give
    audit           the result of an audit as a table and sentences
"""
