"""A detector over HTTP, alone or in front of another server.

A module imports only from those above it, here and in the packages above.

::

    dispatch   requests that wait for the model, taken together
    protocol   what the server is asked and what it says: OpenAI's chat completions, and scores
    guard      what a request must pass before it is read: token, size, time
    observing  scores handed on to Prometheus, OpenTelemetry, Langfuse
    upstream   another OpenAI-compatible server, that answers what passes through
    relay      what passes through, with its scores
    serving    the detector over HTTP
    listening  the server as a process: address, signals, end
"""
