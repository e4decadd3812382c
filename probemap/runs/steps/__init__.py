"""The steps of a run, one module per verb.

A module that implements a recorded step defines ``plan(run, options, context) -> Plan``; see `definitions`.
A module imports only modules listed above it, here and in the packages above.

::

    answer        the model answers
    judge         verdicts and exact answers
    capture       hidden states at the probed tokens
    attention     attention weights at the probed tokens
    p_true        p(True) of the answers
    p_true_exact  p(True) of the exact answers
    map           one probe per cell, and the baselines
    plot          figures
    report        the HTML report
    export        a detector
    score         scores of the answers by a detector
    resample      several sampled answers per question
    errors        the error taxonomy
    choose        best-of-n
    baselines     all predictors of correctness, ranked
    transfer      the generalisation matrix
"""
