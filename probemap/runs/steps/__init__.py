"""The steps of a run.

A module imports only modules listed above it, here and in the packages above.

::

    judge      verdicts and exact answers
    resample   several sampled answers per question
    capture    hidden states at the probed tokens
    attention  attention weights at the probed tokens
    p_true     the model's own probability that its answers are true
    report     the HTML report
    export     a detector
    map        one probe per cell, and the baselines
    plot       the figures
    studies    error taxonomy and baselines
    choose     best-of-n
    transfer   the generalisation matrix
"""
