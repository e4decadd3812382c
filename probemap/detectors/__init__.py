"""Detectors, which score new answers with probes fitted at the best cells of a map.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    provenance     the model, task, hook point and locator that a detector was fitted with
    head           probes for a few cells, with their calibration, thresholds and evaluation
    calibration    calibration curves, which convert scores to probabilities
    guarantees     thresholds that keep a false-alarm rate or a risk on new questions
    card           the model card
    files          the file format
    hub            uploads detectors to the Hugging Face hub and downloads them
    detector       Detector: scores answers from their hidden states
    thresholds     thresholds of a detector, determined from its scores of held-out answers
    head_fit       fits, calibrates and evaluates the heads
    fit            fit_detector: fits a detector to hidden states and labels
    compatibility  checks that a detector matches a model
    cell_states    reads the hidden states of answers at a detector's cells
    scores         Score and GenerationResult: the results of a scorer
    spans          locates the exact answers in new texts
    scorer         Scorer: scores existing answers, and generates new answers and scores them
    loading        load_scorer: loads a detector and its model
"""
