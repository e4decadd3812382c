"""Load questions from built-in tasks, published data sets, and user files.

A module imports only modules that are listed above it, and packages that are listed above this one in
``CONTRIBUTING.md``.

::

    adapters   converts one row of a published data set to an Example
    published  loads published data sets by name, from the hub or from a file
    files      reads JSONL, CSV and Parquet files; creates a task from a user file
    builtin    the built-in tasks: cities, arithmetic, compare
    loading    loads a task by name or from a file
    supplied   reads user-supplied answers and manual labels
"""
