"""The best cell as a detector that scores new answers.

A module imports only from those above it, here and in the packages above.

::

    branch     what a detector is made of: probes, calibration, thresholds, what they are worth
    cards      a detector's card, for people
    hub        a detector's files on the Hugging Face hub
    detector   Detector: scores answers, and its files
    detecting  fit_detector: from states and verdicts to a detector
    scoring    new answers scored by a detector
"""
