"""Fit a ProbeMap to hidden states and labels.

Each module imports only modules that are listed above it and modules from lower-level packages.

::

    probe_map         ProbeMap: a map of AUCs that can be drawn, saved and loaded
    layers            fits the cells of one layer in parallel threads
    fit               fit_map: fits a map to hidden states and labels
    paper             the protocol of Orgad et al. 2024, for comparison with published maps
    column_baselines  baselines evaluated on the answers of one column
    added_value       what each cell adds to the baselines of its column, and how much of its signal they explain
    gain              adds baselines to a map and computes the gain of its cells over them
    strata            adds the AUCs within strata of a covariate to a map
    attention         extends a map with the attention weights that the probed tokens receive
"""
