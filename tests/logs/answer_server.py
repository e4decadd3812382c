"""A chat completions server of one model, for tools that ask a server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@contextmanager
def answer_server(model_directory: Path) -> Iterator[str]:
    """Serve the model on a free port of this machine, and yield the URL of its chat completions."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model_directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    finally:
        server.shutdown()
        server.server_close()


def _handler(model_directory: Path) -> type[BaseHTTPRequestHandler]:
    import transformers

    loaded: list[Any] = []

    def model() -> Any:
        if not loaded:
            loaded.append(transformers.AutoModelForCausalLM.from_pretrained(model_directory))
        return loaded[0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(_answer(model(), model_directory, request)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _answer(model: Any, model_directory: Path, request: dict[str, Any]) -> dict[str, Any]:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_directory)
    prompt = tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    stops = [stop for stop in request.get("stop") or [] if stop]
    output = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=request["max_tokens"],
        do_sample=False,
        stop_strings=stops or None,
        tokenizer=tokenizer,
    )
    new = output[0, inputs["input_ids"].shape[1] :].tolist()
    text = tokenizer.decode(new, skip_special_tokens=True)
    found = [text.index(stop) for stop in stops if stop in text]
    ended = bool(found) or tokenizer.eos_token_id in new
    message = {"role": "assistant", "content": text[: min(found)] if found else text}
    choice = {"index": 0, "message": message, "finish_reason": "stop" if ended else "length"}
    return {"id": "answer", "object": "chat.completion", "model": request["model"], "choices": [choice]}
