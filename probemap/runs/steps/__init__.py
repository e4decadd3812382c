"""The steps of a run, one module per command.

A module that implements a recorded step defines a function ``plan(run, options, context) -> Plan``; see `definitions`.
Each module imports only modules that are listed above it and modules from lower-level packages.

::

    answer        the model's answers
    judge         verdicts and exact answers
    capture       hidden states at the probed tokens
    attention     attention weights at the probed tokens
    p_true        p(True) for the answers
    p_true_exact  p(True) for the exact answers
    map           one probe per cell, and the baselines
    plot          figures
    report        the HTML report
    export        fits a detector and saves it
    export_log    writes the answers and verdicts as a log for other tools
    score         scores the answers with a detector
    resample      several sampled answers per question
    errors        the error taxonomy
    choose        best-of-n selection
    baselines     ranking of all predictors of correctness
    transfer      the generalisation matrix
    peer          comparison with the states of another model
    audit         error rates of the verdicts
"""
