"""Right or wrong, and where the exact answer is: rules on texts and tokens.

A module imports only from those above it, here and in the packages above.

::

    positions  names of tokens, and the one index that each means
    mentions   what a text asserts: names and numbers, without the negated ones
    judge      right, wrong, or undecided
    locate     where the exact answer is, without seeing the gold answer
"""
