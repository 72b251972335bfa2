"""Models of a server that speaks OpenAI's chat completions: llama.cpp, vLLM, Ollama and the like.

No model is loaded here, so neither torch nor transformers is imported. The requests are httpx's, which gradio
brings along: the page needs two of them, for which OpenAI's client would be one package more to install.
"""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx

from app.prompts import MOST_TOKENS, Messages
from app.tickets import FAULT, TOO_LONG, TOO_MANY, Report, Ticket
from sft.core.errors import UserError

KEY = "SFT_SERVER_API_KEY"  # of the environment; not OpenAI's own name, whose key is not for every server
MOST_ANSWERS = 40  # under way at a time
# Seconds. A server with a line of its own may take minutes to the first token; Stop works meanwhile.
CONNECT, SILENCE, LOOK = 5.0, 300.0, 0.1
# Evaluation samples from all tokens, and no token is penalized; servers have habits of their own. OpenAI's
# parameters have no word for the last three: llama.cpp and vLLM take these, Ollama has its Modelfile.
WHOLE_DISTRIBUTION = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


class Server:
    """Has a server's models answer: each answer is a request whose text is streamed."""

    hint = "These are the models of a server."

    def __init__(
        self, url: str, model: str = "", temperature: float = 0.7, most_tokens: int = MOST_TOKENS
    ) -> None:
        """Ask the server what models it has, of which `model` answers, or the only one.

        Raises UserError where no such server is there, or it has no such model.
        """
        self.url = _base(url)
        self.temperature, self.most_tokens = temperature, most_tokens
        self._answers: set[Ticket] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="requests", daemon=True).start()
        self._models: list[str] = []
        self.default = self._chosen(model)

    def called(self, name: str) -> str:
        """Return how the page names a model: as the server does."""
        return name

    def listed(self) -> list[str]:
        """Return the server's models, as far as it can be asked just now."""
        with contextlib.suppress(UserError):
            self._models = self._run(self._ask_models())
        return self._models

    def warm_up(self, report: Report) -> str:
        """Do nothing: the server has loaded its model."""
        return ""

    def ask(self, name: str, messages: Messages, seed: int = 0, report: Report = lambda _: None) -> Ticket:
        """Begin an answer.

        The sampling noise is the server's own: a question with the same seed is answered alike where the
        server keeps to that. Raises UserError where the server has no such model or too many wait.
        """
        name = self._chosen(name)
        if len(self._answers) >= MOST_ANSWERS:
            raise UserError(TOO_MANY)
        ticket = Ticket(self.most_tokens)
        self._answers.add(ticket)
        asyncio.run_coroutine_threadsafe(self._answer(ticket, name, list(messages), seed), self._loop)
        return ticket

    def _chosen(self, name: str) -> str:
        if not name or name not in self._models:
            self._models = self._run(self._ask_models())
        if not self._models:
            raise UserError(f"{self.url}: the server has no model. Have it load one first.")
        if not name and len(self._models) == 1:
            return self._models[0]
        if name not in self._models:
            names = ", ".join(self._models)
            if not name:
                raise UserError(f"{self.url}: the server has several models. Choose one by --model: {names}")
            raise UserError(f"{self.url}: the server has no model {name[:80]!r}. It has: {names}")
        return name

    def _run(self, asked: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    def _client(self) -> httpx.AsyncClient:
        key = os.environ.get(KEY)
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(SILENCE, connect=CONNECT),
            mounts={f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")},  # no proxy
        )

    async def _ask_models(self) -> list[str]:
        try:
            async with self._client() as client:
                response = await client.get("models", timeout=2 * CONNECT)
                if response.is_error:
                    raise self._refusal(response)
                return [str(model["id"]) for model in response.json()["data"]]
        except httpx.HTTPError as error:
            raise self._fault(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.url}: what answers there is no OpenAI-compatible server: it has no list of models."
            ) from error

    async def _answer(self, ticket: Ticket, name: str, messages: Messages, seed: int) -> None:
        """Have an answer generated; where it is unwanted the server sees the connection close."""
        work = asyncio.ensure_future(self._stream(ticket, name, messages, seed))
        while not work.done():
            await asyncio.wait({work}, timeout=LOOK)
            if ticket.unwanted and not work.done():
                work.cancel()
                await asyncio.wait({work}, timeout=CONNECT)  # until the connection is closed
        self._answers.discard(ticket)
        if work.cancelled():
            ticket.tell("stopped")
        elif error := work.exception():
            if not isinstance(error, UserError):
                self._loop.call_exception_handler({"message": f"answer of {self.url}", "exception": error})
            ticket.tell("failed", fault=str(error) if isinstance(error, UserError) else FAULT)

    async def _stream(self, ticket: Ticket, name: str, messages: Messages, seed: int) -> None:
        body = {
            "model": name,
            "stream": True,
            "max_tokens": self.most_tokens,
            "temperature": self.temperature,
            "seed": seed,
            **WHOLE_DISTRIBUTION,
        }
        try:
            async with self._client() as client:
                while True:
                    asked = {**body, "messages": messages}
                    async with client.stream("POST", "chat/completions", json=asked) as response:
                        if not response.is_error:
                            return await self._read(ticket, response)
                        await response.aread()
                    refusal = self._refusal(response)
                    if not _exceeds_context(response):
                        raise refusal
                    if len(messages) < 5:
                        raise UserError(TOO_LONG)
                    del messages[2:4]  # the recipe and the latest questions stay
        except httpx.HTTPError as error:
            raise self._fault(error, begun=bool(ticket.text)) from error

    async def _read(self, ticket: Ticket, response: httpx.Response) -> None:
        """Show the text as it comes; raises UserError where the server breaks it off."""
        text, reason = "", None
        async for event in _events(response):
            if "error" in event:
                raise UserError(f"{self.url}: the server reports an error: {_message(event)}")
            for choice in event.get("choices") or []:
                text += (choice.get("delta") or {}).get("content") or ""
                reason = choice.get("finish_reason") or reason
            ticket.tell("generating", text)
        if reason is None:
            raise UserError(f"{self.url}: the server broke the answer off. Ask again.")
        ticket.tell("cut off" if reason == "length" else "ended", text)

    def _fault(self, error: httpx.HTTPError, begun: bool = False) -> UserError:
        """Say what went wrong with a connection."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            why = "no server answers there. Start one, or check the address: docs/serving.md"
        elif isinstance(error, httpx.TimeoutException):
            why = "the server does not answer. See what it prints."
        elif begun:
            why = "the server broke the answer off. Ask again."
        else:
            why = f"the server closed the connection: {error or type(error).__name__}"
        return UserError(f"{self.url}: {why}")

    def _refusal(self, response: httpx.Response) -> UserError:
        """Say what an error status means."""
        status, message = response.status_code, _message(response)
        if status in (401, 403):
            return UserError(f"{self.url}: the server wants a key ({status}). Set ${KEY}.")
        if status == 503:
            return UserError(f"{self.url}: the server is not ready: {message or status}. Try again soon.")
        if status == 404 and not message:
            return UserError(f"{self.url}: there is no OpenAI-compatible server at this address (404).")
        return UserError(f"{self.url}: the server reports an error ({status}): {message or 'without a word'}")


def _base(url: str) -> str:
    """Return the address that chat/completions is below; raises UserError for what is none."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"{url[:200]!r} is no server's address. Give one such as http://localhost:8080")
    path = parsed.path.rstrip("/")
    return str(parsed.copy_with(path=path if path.endswith("/v1") else f"{path}/v1", query=None))


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON objects of a stream of server-sent events.

    httpx splits lines wherever Unicode knows one, so also in the middle of a text (U+2028, U+0085).
    """
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.strip().partition(b":")
            if name not in (b"data", b"error") or value.strip() == b"[DONE]":
                continue
            try:
                event = json.loads(value)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                raise UserError(
                    f"{response.url}: the server sent something else than a stream of chat completions."
                )
            yield event if name == b"data" else {"error": event}


def _message(said: httpx.Response | dict[str, Any]) -> str:
    """Return what an error says: {"error": {"message": ...}}, {"error": ...} or {"message": ...}."""
    try:
        error = said.json() if isinstance(said, httpx.Response) else said
    except ValueError:
        return ""
    for key in ("error", "message"):
        error = error.get(key, error) if isinstance(error, dict) else error
    return " ".join(str(error).split())[:300]


def _exceeds_context(response: httpx.Response) -> bool:
    """Tell whether the conversation is what was refused; llama.cpp and vLLM both say so with a 400."""
    return response.status_code == 400 and "context" in response.text
