"""The run directory and the steps that write to it.

Each module imports only modules that are listed above it and modules from lower-level packages.

::

    agreement      agreement of two graders, and Cohen's kappa with its interval
    options        options of each step
    definitions    definition of each step: name, outputs, options, dependencies
    record         run.json
    answer_file    answers.jsonl, read one answer at a time
    folder         the files of a run directory, written atomically
    directory      lock and record of a run directory
    checkpoint     intermediate results, from which an interrupted step resumes
    plan           the execution context and the plan of a step
    graded         questions, answers and judgements in a common order
    run            the content of a run directory, checked for consistency
    questions      reads the questions of a run, and the answers if they are supplied
    answer_worker  selects how answers are generated or imported
    selection      counts of verdicts, and differences between decided and undecided answers
    labels         applies manual labels
    llm_judge      judgements by rules, or by a language model whose responses are stored
    span_check     checks the exact answers of open questions by a second locator
    samples        several sampled answers per question, judged like the run's own answers
    study_files    computes input hashes, and reads and writes the result tables of studies
    audit_files    the answers drawn for an audit, and their labels
    steps          the steps, one module per command
    execution      executes, skips, resumes or repeats a step
    pipeline       executes all steps
    verify         checks captured states
    tracking       logs results to MLflow, Weights & Biases or Trackio
"""
