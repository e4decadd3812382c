"""Models: loading, prompting, generation, and p(True).

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    batching    batches that fit in memory, halved when memory runs out
    gguf        GGUF files, dequantised once and cached
    model       a loaded model: weights, revision, tokenizer, stop tokens
    loading     how to load a model, described before torch is imported
    reasoning   reasoning models: where the final answer begins
    prompts     how a question becomes a prompt
    decoding    token ids to text, for finished answers and token by token
    logits      logits at selected tokens
    generate    batched generation
    retokenise  texts from other sources as answers: tokenised once and checked
    endpoint    client of a server with OpenAI's API
    engine      what answers a task: transformers in process, a server, or supplied texts
    ask         answers of a model to the questions of a task
    p_true      p(True): the probability that a model assigns to its own answer being true
"""
