"""Detectors, which use the probes of the best cells to score new answers.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    provenance     the model, task, hook point and locator that a detector was fitted with
    head           probes for a few cells, with their calibration, thresholds and evaluation
    calibration    conversion of scores to probabilities
    card           the model card
    files          the file format
    hub            upload to and download from the Hugging Face hub
    detector       Detector: scores answers from their hidden states
    head_fit       fitting, calibration and evaluation of the heads
    fit            fit_detector: fits a detector to hidden states and labels
    compatibility  checks that a detector matches a model
    cell_states    the hidden states of answers at the cells of a detector
    scores         Score and GenerationResult: the results of a scorer
    spans          location of the exact answers in new texts
    scorer         Scorer: scores texts, and answers during generation
    loading        load_scorer: loads a detector and its model
"""
