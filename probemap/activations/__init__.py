"""Hidden states: hooks, capture, and storage.

Each module imports only modules listed above it and modules from lower-level packages.

::

    layout       axes, site and origin of an array of captured states
    source       hidden states that are read from any array, one layer at a time
    prefix       keys and values of a token prefix shared by all prompts
    hooks        sites and hook points inside a block
    storage      storage backends: a local directory or a bucket
    store        the sharded, checksummed, resumable store of hidden states
    memory       in-memory store of hidden states with the same interface
    forward      hidden states at the probed tokens of one batch
    reader       capture into a store, shard by shard
    activations  the hidden states of a set of answers, in memory or in a store
    capture      Python function that computes the hidden states of answers
    recorder     hidden states of all generated tokens, recorded during generation
    inline       capture during generation, without a second forward pass
    attention    attention weights that the probed tokens receive
    vllm         hidden states extracted by vLLM
"""
