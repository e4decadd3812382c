"""Models: loading, prompting, generation, and p(True).

A module imports only modules listed above it, here and in the packages above.

::

    batching    batches that fit the memory, halved when memory runs out
    model       a loaded model: weights, revision, tokenizer, stop tokens
    loading     how to load a model, described before torch is imported
    reasoning   reasoning models: where the final answer begins
    prompts     how a question becomes a prompt
    decoding    token ids to text, for finished answers and token by token
    logits      the model's logits at chosen tokens
    generate    generation
    retokenize  texts from elsewhere as answers: tokenised once and checked
    endpoint    client of an OpenAI-compatible server
    p_true      p(True): the probability the model assigns to its own answer being true
"""
