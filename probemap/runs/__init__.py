"""The run directory, and the steps that fill it.

A module imports only modules listed above it, here and in the packages above.

::

    options      options of each step
    answer_file  answers.jsonl, read one answer at a time
    folder       the files of a run directory, each read and written as a whole
    run          the run directory: what each step wrote, and from what
    checkpoint   intermediate results of a step, for resuming
    integrity    checks that the files of a run directory still belong together
    engines      what runs the model: transformers here, a server, or a file of answers
    steps        the steps, one module per verb
    verify       checks of captured states
    tracking     results logged to MLflow, Weights & Biases or Trackio
    pipeline     all steps in a row
"""
