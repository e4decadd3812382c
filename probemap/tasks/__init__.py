"""Questions: built-in tasks, published data sets, and user files.

A module imports only modules listed above it, here and in the packages above.

::

    adapters   convert one row of a published data set to an Example
    published  published data sets by name, from the hub or from a file
    files      read JSONL, CSV and Parquet files; a task from a user's file
    builtin    the built-in tasks: cities, arithmetic, compare
    loading    a task by name or from a file
    supplied   user-supplied answers and manual labels, matched to the questions
"""
