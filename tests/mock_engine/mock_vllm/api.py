# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine answers on each path, with the words and status codes of the real one."""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from typing import Any

from .engine import Aborted, Engine, EngineDead, Fault
from .http import Request, Response, json_response

# The API key guards these prefixes alone, as in the real engine.
_GUARDED = ("/v1", "/v2", "/inference", "/cohere")
_OPEN: dict[str, dict[str, Any]] = {"/tokenize": {"tokens": []}, "/docs": {}, "/openapi.json": {}, "/invocations": {}}


class BadRequest(Exception):
    """An answer other than 200, as the real engine words it."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.response = json_response(
            status, {"error": {"message": message, "type": kind, "param": None, "code": status}}
        )


@dataclass(frozen=True)
class Completion:
    """One request for tokens, of either kind."""

    chat: bool
    prompt: str
    max_tokens: int
    stream: bool
    include_usage: bool
    id: str
    created: int
    model: str

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt: a word each."""
        return max(1, len(self.prompt.split()))

    def usage(self, completion_tokens: int) -> dict[str, int]:
        """The usage object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        }

    def whole(self, text: str, completion_tokens: int) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        content = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": "length"}
        return {**self._head(""), "choices": [choice], "usage": self.usage(completion_tokens)}

    def chunk(self, text: str, finish_reason: str | None = None) -> dict[str, Any]:
        """One event of a stream."""
        content: dict[str, Any] = {"delta": {"content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head(".chunk"), "choices": [choice]}

    def opening(self) -> list[dict[str, Any]]:
        """The events before the first token."""
        if not self.chat:
            return []
        return [{**self._head(".chunk"), "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]

    def closing(self, completion_tokens: int) -> list[dict[str, Any]]:
        """The events after the last token."""
        if not self.include_usage:
            return []
        return [{**self._head(".chunk"), "choices": [], "usage": self.usage(completion_tokens)}]

    def _head(self, suffix: str) -> dict[str, Any]:
        kind = f"chat.completion{suffix}" if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class Api:
    """Routes requests to one engine."""

    def __init__(self, engine: Engine, key: str, version: str) -> None:
        self.engine = engine
        self.key = key
        self.version = version
        self.seen: deque[dict[str, Any]] = deque(maxlen=1000)

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        if request.path.startswith("/mock/"):
            return self._control(request)
        authorization = request.headers.get("authorization", "")
        self.seen.append({"method": request.method, "path": request.path, "authorization": authorization})
        if self.key and request.path.startswith(_GUARDED) and authorization != f"Bearer {self.key}":
            return json_response(401, {"error": "Unauthorized"})
        try:
            return await self._route(request)
        except BadRequest as refusal:
            return refusal.response

    async def _route(self, request: Request) -> Response:
        path = request.path
        if path in ("/health", "/ping"):
            return Response(503 if self.engine.dead else 200)
        if path == "/metrics":
            return Response(body=self.engine.metrics.render().encode(), content_type="text/plain; version=0.0.4")
        if path == "/version":
            return json_response(200, {"version": self.version})
        if path in _OPEN:
            return json_response(200, _OPEN[path])
        if path == "/v1/models":
            return json_response(200, {"object": "list", "data": [self._model()]})
        if path in ("/v1/completions", "/v1/chat/completions") and request.method == "POST":
            return await self._complete(request, self._read_completion(request))
        return json_response(404, {"detail": "Not Found"})

    def _model(self) -> dict[str, Any]:
        settings = self.engine.settings
        return {
            "id": settings.served_model_name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "vllm",
            "root": settings.model,
            "parent": None,
            "max_model_len": settings.max_model_len,
        }

    def _read_completion(self, request: Request) -> Completion:
        try:
            body = json.loads(request.body)
        except ValueError as error:
            raise BadRequest(400, "BadRequestError", f"the body is not JSON: {error}") from error
        settings = self.engine.settings
        if body.get("model") != settings.served_model_name:
            raise BadRequest(404, "NotFoundError", f"The model `{body.get('model')}` does not exist.")
        chat = request.path.endswith("/chat/completions")
        prompt = "\n".join(m["content"] for m in body["messages"]) if chat else body["prompt"]
        completion = Completion(
            chat=chat,
            prompt=prompt,
            max_tokens=int(body.get("max_completion_tokens") or body.get("max_tokens") or 16),
            stream=bool(body.get("stream")),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            id=f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=settings.served_model_name,
        )
        length = completion.prompt_tokens + completion.max_tokens
        if length > settings.max_model_len:
            raise BadRequest(
                400,
                "BadRequestError",
                f"This model's maximum context length is {settings.max_model_len} tokens, the request needs {length}.",
            )
        return completion

    async def _complete(self, request: Request, completion: Completion) -> Response:
        if self.engine.draining:
            raise BadRequest(500, "InternalServerError", "cannot schedule new futures after shutdown")
        if self.engine.dead:
            raise BadRequest(500, "InternalServerError", "EngineCore encountered an issue.")
        fault = self.engine.fault
        if fault.kind == "error" and fault.hits(completion.prompt):
            raise BadRequest(fault.status, "InternalServerError", "a fault that a test asked for")
        if completion.stream:
            return Response(content_type="text/event-stream; charset=utf-8", parts=self._events(request, completion))
        try:
            tokens = [token async for token in self._tokens(request, completion)]
        except (EngineDead, Aborted) as error:
            raise BadRequest(500, "InternalServerError", "EngineCore encountered an issue.") from error
        return json_response(200, completion.whole("".join(tokens), len(tokens)))

    async def _events(self, request: Request, completion: Completion) -> AsyncGenerator[bytes, None]:
        for event in completion.opening():
            yield _sse(event)
        count, tokens = 0, self._tokens(request, completion)
        try:
            async for token in tokens:
                count += 1
                yield _sse(completion.chunk(token, "length" if count == completion.max_tokens else None))
            for event in completion.closing(count):
                yield _sse(event)
        except (EngineDead, Aborted):
            message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            yield _sse({"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}})
        finally:
            await tokens.aclose()
        yield b"data: [DONE]\n\n"

    def _tokens(self, request: Request, completion: Completion) -> AsyncGenerator[str, None]:
        return self.engine.generate(completion.prompt, completion.prompt_tokens, completion.max_tokens, request.gone)

    def _control(self, request: Request) -> Response:
        """The tests' own door: read the requests seen, set or clear a fault."""
        if request.path == "/mock/requests":
            return json_response(200, list(self.seen))
        if request.path == "/mock/fault" and request.method == "POST":
            fault = Fault(**json.loads(request.body))
            if fault.kind not in Fault.KINDS:
                return json_response(400, {"error": f"kind is one of {', '.join(Fault.KINDS)}"})
            self.engine.fault = fault
            return json_response(200, asdict(fault))
        return json_response(404, {"error": "the mock knows /mock/requests and POST /mock/fault"})


def _sse(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
