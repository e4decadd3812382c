"""Show maps as figures, as text, and as an HTML report.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    printable       escaping of untrusted text before it is printed
    verdicts        verdicts as text: counts by reason, examples of each rule
    observations    observations about maps: sentences with the numbers on which they are based
    baseline_words  observations about the baselines: what the cells add to them
    words           summaries of maps: a table, and observations supported by statistical tests
    diagnostics     ROC curve, reliability curve and histogram of a single cell
    risk_coverage   risk-coverage curves of the cells and of the best baselines
    figures         parts that all figures share: sizes, styles, and the base class of the displays
    artists         the parts of a heatmap, drawn with matplotlib
    heatmap         heatmaps
    curves          curves of a value against layer or against position
    matrix          the generalisation matrix as a figure
    terminal        maps and tables as text for the terminal
    tokens          answers as text for the terminal, split into tokens
    report          the HTML report
    audit_page      a page on which a person labels answers
"""
