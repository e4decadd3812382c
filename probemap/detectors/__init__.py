"""The best cell as a detector that scores new answers.

A module imports only modules listed above it, here and in the packages above.

::

    provenance  the model and the task that a detector belongs to
    head      probe, calibration, thresholds and evaluation of a detector
    card      the model card of a detector
    hub       detectors on the Hugging Face hub
    detector  Detector: scores states; its file format
    fit       fit_detector: from hidden states and labels to a detector
    scorer    scores of new answers
    loading   a detector with its model
"""
