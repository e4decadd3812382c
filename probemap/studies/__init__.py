"""Analyses on top of maps: error taxonomy, best-of-n, baselines, generalisation.

A module imports only modules listed above it, here and in the packages above.

::

    semantics       which answers to one question mean the same; semantic entropy
    error_types     the error taxonomy of the paper, A to E
    errors          probes that predict the error type of a question
    best_of_n       choosing one of several answers by the probe
    ranking         all predictors of correctness, ranked on the same answers
    generalisation  probes of one run evaluated on another run
"""
