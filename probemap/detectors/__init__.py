"""The best cell as a detector that scores new answers.

A module imports only modules listed above it, here and in the packages above.

::

    provenance     the model and the task that a detector belongs to
    head           probes of a few cells with their calibration, thresholds and evaluation
    calibration    from scores to probabilities
    card           the model card
    files          the file format
    hub            upload to and download from the Hugging Face hub
    detector       Detector: scores answers from their hidden states
    head_fit       fitting, calibration and evaluation of the heads
    fit            fit_detector: from hidden states and labels to a detector
    compatibility  checks that a detector belongs to a model
    cell_states    the hidden states of answers at the cells of a detector
    scores         the score of an answer, and a generated answer with its score
    spans          the exact answers of new answers
    scorer         Scorer: scores texts, and answers during generation
    loading        load_scorer: a detector with its model
"""
