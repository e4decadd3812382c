"""The steps of a run.

A module imports only modules listed above it, here and in the packages above.

::

    judge      verdicts and exact answers
    resample   several sampled answers per question
    capture    hidden states at the probed tokens
    attention  attention weights at the probed tokens
    report     the HTML report
    export     a detector
    map        one probe per cell, and the baselines
    plot       the figures
    studies    error taxonomy and baselines
    choose     best-of-n
    transfer   the generalisation matrix
"""
