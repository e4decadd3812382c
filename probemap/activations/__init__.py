"""Hidden states: hooks, capture, and storage.

A module imports only modules listed above it, here and in the packages above.

::

    prefix     a prefix that all prompts share, computed once
    hooks      hook points inside a block: sites
    storage    storage backends: a local directory or a bucket
    store      the sharded, checksummed, resumable store of hidden states
    source     hidden states from any array, one layer at a time
    capture    hidden states at the probed tokens
    recorder   hidden states of every produced token, recorded during generation
    inline     capture during generation, without a second forward pass
    attention  attention weights at the probed tokens
    vllm       hidden states that vLLM extracted
"""
