"""Grade answers and locate exact answers, by rules or with a language model as judge.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    rules         grades answers as correct, incorrect or undecided by rules on the text
    open_answers  locates the exact answers of open questions by rules
    locate        locates the exact answer without the accepted answers
    choosing      lets a loaded model choose the exact answers of open questions
    llm           uses a language model to grade answers and locate exact answers
"""
