"""Verdicts and exact answers: rules, and a language model as judge.

A module imports only modules listed above it, here and in the packages above.

::

    rules   correct, incorrect or undecided, by rules on the text
    locate  the exact answer, located without the accepted answers
    llm     a language model as judge and as locator
"""
