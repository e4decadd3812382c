"""The paper's other questions, from finished states, verdicts and samples: tables, and what they say.

A module imports only from those above it, here and in the packages above.

::

    tables    a study's result: a table, and what it says in words
    meaning   which answers to one question mean the same
    kinds     what kind of error a question brings out: the paper's A to E
    errors    can it be read which kind of error a question brings out?
    choice    picking one of several answers: by the probe, against what needs no probe
    ranking   everything that tells right from wrong answers, on the same answers, in one order
    transfer  a probe of one run, judged on the answers of another
"""
