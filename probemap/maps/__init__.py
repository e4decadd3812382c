"""Maps: from hidden states and labels to a ProbeMap.

A module imports only modules listed above it, here and in the packages above.

::

    probe_map  ProbeMap: a map of AUCs that draws, saves and loads itself
    fit        fit_map: from hidden states to a map
    paper      the protocol of the paper's code, for comparison
    gain       gain of the map over the baselines
"""
