"""Read the logs of evaluation tools, and write results for other tools.

The modules that read a format convert each of its samples to a `LoggedAnswer`, or state why it cannot be used.  All
decisions that concern several samples are made in `importing`.

::

    samples          the answers and scores in a log, independent of its format
    jsonl            reads the lines of a log one at a time
    lm_eval          reads the samples of lm-evaluation-harness
    inspect_ai       reads the logs of Inspect
    lighteval        reads the details of lighteval
    every_eval_ever  reads the samples of Every Eval Ever
    importing        imports the questions, answers and verdicts of a log
    exporting        writes answers, verdicts and probabilities in the format of Every Eval Ever
"""
