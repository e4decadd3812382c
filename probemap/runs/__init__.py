"""The run folder, and the steps on it: each reads what the steps before it left.

A module imports only from those above it, here and in the packages above.

::

    folder        the files of a run folder, each read and written whole or not at all
    run           the run folder: what each step made, from what
    ledger        what a step has found so far, to go on from
    contents      what a run folder holds, checked
    engines       who answers: this model, a server, or a file
    judging       the judge step: by rules, by a model that is asked, or by hand
    resampling    the resample step: every question asked again and again
    capturing     the capture step: by one process, by many, or from vLLM's files
    checking      is what was captured still right?
    attending     the attention step
    reporting     the report step
    tracking      numbers, pictures and page handed to MLflow, Weights & Biases or Trackio
    exporting     the export step: a detector from a run
    analysis      the map step
    drawing       the plot step
    pipeline      the steps that need one, and all of them in a row
    studying      the errors and baselines steps
    choosing      the choose step: one of several answers
    transferring  the transfer step
"""
