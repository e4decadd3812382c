"""A model: loaded, prompted, answering, asked about its own answers.

A module imports only from those above it, here and in the packages above.

::

    batching   batches that fit, and halves where memory runs out
    model      a model: where it is, what was loaded, where it stops
    loading    how to load a model, said before anything heavy is imported
    answers    the file of answers, read one at a time
    reasoning  thinking models: where the answer proper begins
    prompt     how a question is put to a model
    logits     the model's own logits at chosen tokens
    generate   the model answers
    replay     texts from elsewhere as answers: tokens made once and checked
    endpoint   questions put to an OpenAI-compatible server
    assess     a model as judge and as locator
    truth      p(True): the model asked about its own answer
    prefix     a beginning that all prompts share, computed once
    sites      blocks, and the modules inside that a state is read from
"""
