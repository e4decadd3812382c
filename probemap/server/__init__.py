"""A detector over HTTP, alone or in front of another server.

A module imports only modules listed above it, here and in the packages above.

::

    jobs         requests in the form that the model's thread takes
    batching     queued requests, combined into batches for the model
    schemas      requests and responses of the HTTP API
    middleware   authentication, limits on size and duration, request statistics
    telemetry    scores sent to Prometheus, OpenTelemetry and Langfuse
    upstream     client of the upstream server
    completions  chat completions that the detector's model generates and scores
    relay        chat completions of the upstream server with their scores
    streaming    server-sent events, and work that is cancelled when the client disconnects
    endpoints    the endpoints of the HTTP API
    app          the FastAPI application
    listening    the server process: address, signals, shutdown
"""
