"""Where questions come from: built-in tasks, published data sets, files that users bring.

A module imports only from those above it, here and in the packages above.

::

    adapters   one row of a published data set to an Example
    published  published data sets by name, from the hub or a file
    data       built-in tasks, and files that users bring
    given      answers that you already have, joined to the questions
"""
