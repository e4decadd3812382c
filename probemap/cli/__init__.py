"""The command line: printing and exit status.

A module imports only modules listed above it, here and in the packages above.

::

    flags      names and help of the options
    console    data to stdout, messages to stderr
    show       verbs that display results
    studies    verbs of the studies
    detectors  verbs of detectors
    main       the other verbs and the entry point
"""
