"""The command line: printing and exit status.

A module imports only from those above it, here and in the packages above.

::

    flags      what the command line's options are called
    console    data to one side, talk to the other
    views      the verbs that look
    studies    the verbs of the paper's other questions
    detectors  the verbs of detectors
    main       the other verbs: printing and exit status
"""
