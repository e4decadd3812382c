"""The command line: output and exit status.

A module imports only modules listed above it, here and in the packages above.

::

    flags      typer parameters, from the options of the steps
    console    results to stdout, messages to stderr
    show       verbs that display, draw, check and list
    steps      verbs of the steps
    detectors  verbs of detectors
    main       run, demo, and the entry point
"""
