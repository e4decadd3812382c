"""Hidden states: hooks, capture, and storage.

A module imports only modules listed above it, here and in the packages above.

::

    layout     what an array of captured states contains
    source     hidden states from any array, one layer at a time
    prefix     keys and values of a token prefix that all prompts share
    hooks      sites and hook points inside a block
    storage    storage backends: a local directory or a bucket
    store      the sharded, checksummed, resumable store of hidden states
    memory     hidden states in memory, with the interface of the store
    forward    hidden states at the probed tokens of one batch
    reader     capture into a store, shard by shard
    capture    capture on values: from a model and its answers to hidden states
    recorder   hidden states of every produced token, recorded during generation
    inline     capture during generation, without a second forward pass
    attention  attention weights at the probed tokens
    vllm       hidden states that vLLM extracted
"""
