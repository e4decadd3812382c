"""Finished numbers as pictures, words and a page.

A module imports only from those above it, here and in the packages above.

::

    figure    the heatmaps
    curves    the same values as curves
    matrix    the picture of transfer: one run's probe on another's answers
    terminal  map and answers as text
    report    one page that opens anywhere, from finished maps
    notebook  a map as a notebook shows it
"""
