"""Grade answers and locate exact answers, by rules or with a language model as the judge.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    open_answers  locates the exact answers of open questions by rules
    locate        what an answer asserts, which part of it can be graded, and where its exact answer is
    rules         grades answers as correct, incorrect or undecided by rules on the text
    choosing      lets a loaded model choose the exact answers of open questions
    llm_prompts   prompts that ask a language model to grade answers or to quote exact answers
    llm_replies   reads verdicts and exact answers from the replies of a language model
    llm_budget    limit on the number of tokens that a judge behind a server may use
    llm           uses a language model to grade answers and locate exact answers
"""
