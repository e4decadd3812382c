"""Hidden states: capture and storage.

Each module imports only modules listed above it and modules from lower-level packages.

::

    layout       axes, site and origin of an array of captured states
    source       hidden states that are read from any array, one layer at a time
    storage      storage backends: a local directory or a bucket
    store        the sharded, checksummed, resumable store of hidden states
    memory       in-memory store of hidden states with the same interface
    reader       capture into a store, shard by shard
    activations  the hidden states of a set of answers, in memory or in a store
    capture      Python function that computes the hidden states of answers
    inline       capture during generation, without a second forward pass
    attention    attention weights that the probed tokens receive
    imported     hidden states from files that a vLLM server has written
"""
