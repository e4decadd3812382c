"""From states and verdicts to a map: all cells fitted at once, with what is known about each.

A module imports only from those above it, here and in the packages above.

::

    newton     Newton's method, for what the solver leaves
    space      the unknowns of a logistic regression: features or rows, and what makes descending quick
    solver     many logistic regressions on a few design matrices, solved together
    stats      AUC and its uncertainty, of one cell or of all jointly
    splits     which answers train and which judge
    strength   how strong the states are, and whether those of right answers differ
    probe      the probes of one cell, judged out of fold
    baselines  what needs no hidden states: log-probabilities, lengths, words
    cells      the AUC of every cell, and what the best one is worth on answers that did not choose it
    map        ProbeMap: what is known about every cell
    fit        fit_map: from states to map
    paper      the research code's own protocol, for comparison
    gain       what the map adds to its baselines
    values     what else a cell can show: accuracy, calibration, strength, attention; and maps subtracted
    portrait   one cell in detail: ROC, reliability, how its scores lie
    describe   the map in words, each sentence supported by a test
"""
