"""Client for the OpenAI-compatible upstream server, which generates the answers to proxied requests."""

from collections.abc import AsyncIterator
from typing import Any

from openai import AsyncOpenAI, AsyncStream, OpenAIError
from pydantic import BaseModel, ValidationError

from probemap.records import ProbemapError
from probemap.redact import redacted_message

_CLIENT_ERRORS = (400, 404, 413, 422, 429)
"""Status codes of errors that the client can correct.  They are passed on; all other errors are reported as 502."""


class _UpstreamChoice(BaseModel):
    """The fields of a choice that the proxy reads; servers may send other fields as well."""

    index: int | None = None
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None


class _UpstreamCompletion(BaseModel):
    choices: list[_UpstreamChoice]
    usage: dict[str, Any] | None = None


class _UpstreamChunk(BaseModel):
    choices: list[_UpstreamChoice] | None = None
    usage: dict[str, Any] | None = None


class UpstreamError(ProbemapError):
    """The upstream server rejected the request, did not respond, or sent an invalid response."""

    def __init__(self, problem: str, status: int) -> None:
        super().__init__(problem)
        self.status = status


class Upstream:
    """Sends requests to the upstream server unchanged.

    The API key for the upstream server is read from ``OPENAI_API_KEY``; the client's token is not forwarded.

    Parameters
    ----------
    url : str
        Base URL of the server, for example ``http://127.0.0.1:8000/v1``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._client = AsyncOpenAI(base_url=url, max_retries=1)
        except OpenAIError:  # no key in the environment
            self._client = AsyncOpenAI(base_url=url, max_retries=1, api_key="none")

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Request a chat completion.

        Parameters
        ----------
        body : dict
            The request in the format of OpenAI's API.

        Returns
        -------
        dict
            The completion as the server sent it.

        Raises
        ------
        UpstreamError
            If the server rejects the request, does not respond, or sends a response that is not a chat completion.
        """
        try:
            completion = await self._client.post("/chat/completions", body=body, cast_to=object)
        except OpenAIError as error:
            raise self._upstream_error(error) from None
        return self._checked(completion, _UpstreamCompletion)

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Request a chat completion and yield its chunks as they arrive.

        Parameters
        ----------
        body : dict
            The request in the format of OpenAI's API.

        Yields
        ------
        dict
            A chunk as the server sent it.

        Raises
        ------
        UpstreamError
            If the server rejects the request, does not respond, reports an error in the stream, or sends an event that
            is not a chunk of a chat completion.
        """
        try:
            chunks = await self._client.post(
                "/chat/completions",
                body={**body, "stream": True},
                cast_to=object,
                stream=True,
                stream_cls=AsyncStream[object],
            )
            async for chunk in chunks:
                yield self._checked(chunk, _UpstreamChunk)
        except OpenAIError as error:
            raise self._upstream_error(error) from None

    async def models(self) -> Any:
        """Return the server's list of models.

        Raises
        ------
        UpstreamError
            If the server rejects the request or does not respond.
        """
        try:
            return await self._client.get("/models", cast_to=object)
        except OpenAIError as error:
            raise self._upstream_error(error) from None

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close()

    def _checked(self, response: Any, schema: type[BaseModel]) -> dict[str, Any]:
        """Check the response fields that the proxy reads, and return the response unchanged."""
        try:
            schema.model_validate(response)
        except ValidationError as error:
            details = error.errors()[0]
            field = ".".join(map(str, details["loc"])) or "the response"
            raise UpstreamError(
                f"{self.url} returned a response that is not a chat completion: {field}: {details['msg']}", 502
            ) from None
        return dict(response)

    def _upstream_error(self, error: Exception) -> UpstreamError:
        status = getattr(error, "status_code", None)
        return UpstreamError(f"{self.url}: {redacted_message(error)}", status if status in _CLIENT_ERRORS else 502)
