"""Maps as figures, as text, and as an HTML report.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    printable    escaping of untrusted text before it is printed
    words        summaries of maps in sentences, each supported by a statistical test
    diagnostics  ROC curve, reliability curve and histogram of a single cell
    figures      the base of all figures: sizes, styles, displays
    artists      the parts of a heatmap, drawn with matplotlib
    heatmap      heatmaps
    curves       curves over the layers or over the positions
    matrix       the generalisation matrix as a figure
    terminal     maps and tables in the terminal
    tokens       answers in the terminal, split into tokens
    report       the HTML report
"""
