"""Maps as figures, text, and an HTML report.

A module imports only modules listed above it, here and in the packages above.

::

    printable    foreign text made safe to print
    words        a summary of the map in sentences, each supported by a test
    diagnostics  one cell in detail: ROC curve, reliability, histogram of scores
    figures      what all figures share: sizes, styles, displays
    artists      parts of a heatmap as matplotlib draws them
    heatmap      heatmaps
    curves       curves along layers or positions
    matrix       the generalisation matrix as a figure
    terminal     maps and tables in the terminal
    tokens       answers in the terminal, token by token
    report       the HTML report
    notebook     the representation of a map in a notebook
"""
