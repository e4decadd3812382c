"""A detector over HTTP, alone or in front of another server.

A module imports only modules listed above it, here and in the packages above.

::

    batching    waiting requests, combined into batches
    schemas     requests and responses: OpenAI chat completions, and scores
    middleware  authentication, size and time limits
    telemetry   scores sent to Prometheus, OpenTelemetry and Langfuse
    upstream    client of the upstream server
    relay       proxied completions with their scores
    app         the FastAPI application
    listening   the server process: address, signals, shutdown
"""
