"""Questions: built-in tasks, published data sets, and user files.

A module imports only modules listed above it, here and in the packages above.

::

    adapters   convert one row of a published data set to an Example
    published  published data sets by name, from the hub or from a file
    files      built-in tasks and user files
    supplied   user-supplied answers and manual labels, matched to the questions
"""
