"""The command-line interface.

Each module imports only modules that are listed above it and modules from lower-level packages.

::

    flags          typer parameters, generated from the steps' options
    console        output to stdout and stderr
    questionnaire  asks a person for the labels of an audit
    show           commands that display, draw or check a run, or list tasks and positions
    steps          commands that execute the steps
    detectors      commands for detectors
    logs           command that writes a log for other tools
    run            commands that execute all steps
    main           the entry point, which assembles the commands
"""
