"""Load questions from built-in tasks, published data sets, and user files.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    cells      converts the values of table cells: truth values, lists, labels
    metadata   reads the further fields of a question file, e.g. popularity or relation
    adapters   converts one row of a published data set to an Example
    published  loads published data sets by name, from the hub or from a file
    kinds      infers the kind of answer that each question requires
    files      reads JSONL, CSV and Parquet files; creates a task from a user file
    builtin    the built-in tasks: cities, arithmetic, compare
    loading    loads a task by name or from a file
    supplied   reads user-supplied answers and manual labels
    leaks      checks whether accepted answers occur in their own prompts
"""
