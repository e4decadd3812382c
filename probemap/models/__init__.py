"""Models: loading, prompting, generation, and p(True).

Each module imports only modules listed above it and modules from lower-level packages.

::

    batching       batches that are halved when they do not fit in memory
    gguf           GGUF files, dequantised once and cached
    reasoning      separation of reasoning and final answer
    templates      chat templates, rendered and checked
    model_files    checks of the files in a model directory
    model          a loaded model: weights, revision, tokenizer, stop tokens
    loading        description of a model, which can be created without importing torch
    decoding       conversion of token ids to text, all at once or token by token
    prompts        conversion of questions to prompts
    logits         logits at selected tokens
    generate       batched generation
    retokenise     conversion of externally generated texts into answers
    endpoint       address of an OpenAI-compatible server
    replies        replies of OpenAI-compatible servers, checked and reduced to the fields that are used
    request_form   form of requests that a server accepts
    connection     connection to a server, which sends requests and explains errors
    remote         answers from an OpenAI-compatible server
    engine         sources of answers: transformers in this process, a server, or supplied texts
    ask            a model's answers to the questions in a task
    p_true         p(True): the probability that a model assigns to its own answer being true
    continuations  log-probabilities of given continuations of a prompt
"""
