"""The run directory, and the steps that fill it.

A module imports only modules listed above it, here and in the packages above.

::

    options      options of each step
    definitions  the steps: names, outputs, options, dependencies
    record       run.json
    answer_file  answers.jsonl, read one answer at a time
    folder       the files of a run directory, each written completely or not at all
    directory    lock and record of a run directory
    checkpoint   intermediate results of a step, for resuming
    plan         what a step works with, and what it is going to do
    graded       questions, answers and judgements in one order
    run          the content of a run directory, checked for consistency
    engines      the engine that the options of the answer step select
    labels       manual labels
    llm_judge    judgements by rules or by a language model whose responses are kept
    samples      several answers per question, judged like those of the run
    study_files  input hashes and output files that the studies share
    steps        the steps, one module per verb
    execution    execution of a step: lock, record, resumption, --redo
    pipeline     all steps in a row
    verify       checks of captured states
    tracking     results logged to MLflow, Weights & Biases or Trackio
"""
