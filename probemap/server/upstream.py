"""Another OpenAI-compatible server, that answers what passes through."""

from collections.abc import AsyncIterator
from typing import Any

from probemap.records import ModelError, ProbemapError
from probemap.redact import redacted_message


class UpstreamError(ProbemapError):
    """The server behind this one refused, or did not answer."""

    def __init__(self, problem: str, status: int) -> None:
        super().__init__(problem)
        self.status = status


class Upstream:
    """Requests go on as they came; its key is its own, from ``OPENAI_API_KEY``.

    Raises
    ------
    ModelError: the openai package is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import openai
        except ImportError:
            raise ModelError(
                "standing in front of a server needs the openai package, which is not installed",
                "pip install 'probemap[serve]'",
            ) from None
        self.url, self._openai = url, openai
        try:
            self._client = openai.AsyncOpenAI(base_url=url, max_retries=1)
        except openai.OpenAIError:  # no key in the environment
            self._client = openai.AsyncOpenAI(base_url=url, max_retries=1, api_key="none")

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion, whole.

        Raises
        ------
        UpstreamError
        """
        try:
            made = await self._client.post("/chat/completions", body=body, cast_to=object)
        except self._openai.OpenAIError as error:
            raise self._told(error) from None
        if not isinstance(made, dict) or not isinstance(made.get("choices"), list):
            raise UpstreamError(f"{self.url} sent something other than a chat completion", 502)
        return made

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Its pieces, as they come.

        Raises
        ------
        UpstreamError
        """
        try:
            pieces = await self._client.post(
                "/chat/completions",
                body={**body, "stream": True},
                cast_to=object,
                stream=True,
                stream_cls=self._openai.AsyncStream[object],
            )
            async for piece in pieces:
                if isinstance(piece, dict):
                    yield piece
        except self._openai.OpenAIError as error:
            raise self._told(error) from None

    async def models(self) -> Any:
        """What it serves, as it says it."""
        try:
            return await self._client.get("/models", cast_to=object)
        except self._openai.OpenAIError as error:
            raise self._told(error) from None

    async def close(self) -> None:
        await self._client.close()

    def _told(self, error: Exception) -> UpstreamError:
        status = getattr(error, "status_code", None)
        # What the caller did wrong is the caller's to mend; the rest is between the two servers.
        return UpstreamError(
            f"{self.url}: {redacted_message(error)}", status if status in (400, 404, 413, 422, 429) else 502
        )
