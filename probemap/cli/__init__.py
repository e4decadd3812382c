"""The command line.

Each module imports only modules that are listed above it and modules from lower-level packages.

::

    flags      typer parameters, generated from the options of the steps
    console    output to stdout and stderr
    show       commands that display, draw, check and list
    steps      commands that execute the steps
    detectors  commands for detectors
    main       the commands run and demo, and the entry point
"""
