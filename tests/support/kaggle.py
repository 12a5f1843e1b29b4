"""Stand in for Kaggle: its API as its own clients speak it, on a server of the tests. Kaggle itself was never asked."""

from __future__ import annotations

import base64
import json

from tests.support.web_server import Handler, Served, WebServer


class Kaggle:
    """Kaggle's API for one account: a competition whose rules are or are not accepted, and a data set."""

    def __init__(self, server: WebServer, archive: bytes) -> None:
        self.accepted = True
        self._server = server
        server.files["/storage/archive.zip"] = Served(archive)
        server.route = self._answer

    def _answer(self, handler: Handler) -> bool:
        path, _, query = handler.path.partition("?")
        if not path.startswith("/api/v1/"):
            return False
        basic = base64.b64encode(b"ada:key-of-ada").decode()
        if handler.headers.get("Authorization") not in (f"Basic {basic}", "Bearer token-of-ada"):
            return self._json(handler, 401, {"code": 401, "message": "Unauthenticated"})
        if "/competitions/" in path and not self.accepted:
            return self._json(handler, 403, {"code": 403, "message": "You must accept this competition's rules"})
        listed = [{"name": "train/rust/1.jpg", "totalBytes": 9, "creationDate": "2026-01-01T00:00:00Z"}]
        match path.removeprefix("/api/v1/"):
            case "competitions/data/list/plants":
                return self._json(handler, 200, {"files": listed, "nextPageToken": "more"})
            case "datasets/list/ada/leaves":
                return self._json(handler, 200, {"datasetFiles": listed, "nextPageToken": ""})
            case "competitions/data/download-all/plants" | "datasets/download/ada/leaves":
                handler.answer(302, b"", Location=f"{self._server.url}/storage/archive.zip?{query}signed=1")
                return True
        return self._json(handler, 404, {"code": 404, "message": "Not found"})

    @staticmethod
    def _json(handler: Handler, status: int, body: dict[str, object]) -> bool:
        handler.answer(status, json.dumps(body).encode(), Content_Type="application/json")
        return True
