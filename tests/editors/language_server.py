"""A small client of the YAML language server, which editors run: over its standard streams, as an editor speaks."""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SERVER = Path(sys.prefix) / "editors" / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
PATIENCE = 60.0
"""Seconds that an answer may take on a busy machine."""


class LanguageServer:
    """One running server; `settings` are what an editor's settings file says."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        assert SERVER.is_file(), f"{SERVER} is missing: make test installs it"
        node = Path(sys.prefix) / "bin" / "node"
        self._process = subprocess.Popen(
            [node, str(SERVER), "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=_offline()
        )
        self._folder = folder
        self._settings = settings
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._diagnostics: dict[str, queue.Queue[list[dict[str, Any]]]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._begin(folder)

    def _begin(self, folder: Path) -> None:
        markup = ["markdown", "plaintext"]
        able = {
            "textDocument": {
                "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": markup}},
                "hover": {"contentFormat": markup},
            },
            "workspace": {"configuration": True},
        }
        self._ask("initialize", processId=os.getpid(), rootUri=folder.as_uri(), capabilities=able)
        self._tell("initialized")
        self._tell("workspace/didChangeConfiguration", settings=self._settings)
        self.diagnose("version: 1\n")  # what comes before the settings have arrived is answered without a schema

    def diagnose(self, text: str) -> list[dict[str, Any]]:
        """Return what the server has to say about a document."""
        [found] = self.diagnose_all([text])
        return found

    def diagnose_all(self, texts: Iterable[str]) -> list[list[dict[str, Any]]]:
        """Return what the server has to say about each document, all open at once: it waits a while before it looks."""
        opened = [self._open(text) for text in texts]
        found = [self._diagnostics[uri].get(timeout=PATIENCE) for uri in opened]
        for uri in opened:
            self._tell("textDocument/didClose", textDocument={"uri": uri})
        return found

    def completions(self, marked: str) -> dict[str, dict[str, Any]]:
        """Return what is offered where `|` stands in the text, by label."""
        found = self._at("textDocument/completion", marked)
        return {item["label"]: item for item in (found["items"] if isinstance(found, dict) else found)}

    def hover(self, marked: str) -> str:
        """Return what is shown over the word behind `|`."""
        found = self._at("textDocument/hover", marked)
        return found["contents"]["value"] if found else ""

    def _at(self, method: str, marked: str) -> Any:
        before, _, after = marked.partition("|")
        uri = self._open(before + after)
        position = {"line": before.count("\n"), "character": len(before) - before.rfind("\n") - 1}
        answer = self._ask(method, textDocument={"uri": uri}, position=position)
        self._tell("textDocument/didClose", textDocument={"uri": uri})
        return answer

    def _open(self, text: str) -> str:
        """Open a document of its own: the server keeps what it knows of one by its address."""
        uri = (self._folder / f"resilience-{next(self._numbers)}.yaml").as_uri()
        self._diagnostics[uri] = queue.Queue()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", textDocument=document)
        return uri

    def stop(self) -> None:
        """End the server as an editor does."""
        self._ask("shutdown")
        self._tell("exit")
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()

    def _ask(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        waiting = self._answers[number] = queue.Queue()
        self._send({"id": number, "method": method, "params": params})
        answer = waiting.get(timeout=PATIENCE)
        assert "error" not in answer, answer
        return answer["result"]

    def _tell(self, method: str, **params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream
        while header := stream.readline():
            length = int(header.partition(b":")[2])
            while stream.readline().strip():
                pass
            self._take(json.loads(stream.read(length)))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("method") == "textDocument/publishDiagnostics":
            self._diagnostics[message["params"]["uri"]].put(message["params"]["diagnostics"])
        elif "method" in message and "id" in message:
            self._send({"id": message["id"], "result": self._result(message)})
        elif message.get("id") in self._answers:
            self._answers.pop(message["id"]).put(message)

    def _result(self, message: dict[str, Any]) -> Any:
        """Answer what the server asks: the settings, section by section."""
        if message["method"] != "workspace/configuration":
            return None
        return [_section(self._settings, item.get("section", "")) for item in message["params"]["items"]]


def _section(settings: dict[str, Any], name: str) -> Any:
    """Return a section of settings whose keys may be dotted, as VS Code writes them."""
    inside: dict[str, Any] = {}
    for key, value in settings.items():
        if key.startswith(f"{name}."):
            at = inside
            *above, last = key.removeprefix(f"{name}.").split(".")
            for step in above:
                at = at.setdefault(step, {})
            at[last] = value
    return settings.get(name, inside)


def _offline() -> dict[str, str]:
    """Return an environment in which whatever goes to the network fails at once."""
    nowhere = "http://127.0.0.1:9"
    return {**os.environ, "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "NO_PROXY": ""}
