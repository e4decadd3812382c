"""Hidden states: read at the probed tokens, and stored.

A module imports only from those above it, here and in the packages above.

::

    places       where a store's files lie: a folder, or a bucket
    activations  the store of hidden states: sharded, checksummed, resumable
    source       states from anywhere, one layer at a time
    capture      hidden states at the probed tokens
    during       hidden states taken while the model answers
    attention    how much attention the probed tokens receive
    vllm_states  hidden states that vLLM extracted
"""
