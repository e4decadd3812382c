"""Maps: from hidden states and labels to a ProbeMap.

A module imports only modules listed above it, here and in the packages above.

::

    probe_map  ProbeMap: a map of AUCs that draws, saves and loads itself
    layers     fitting the cells of one layer, in parallel threads
    fit        fit_map: from hidden states to a map
    paper      the protocol of the paper's code, for comparison
    gain       gain of the map over the baselines
    attention  attention weights that the probed tokens receive
"""
