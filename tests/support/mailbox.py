"""A mail server on loopback that keeps what it is given, and asks for a password where it has one."""

from __future__ import annotations

import base64
import socketserver
import threading
from dataclasses import dataclass, field


@dataclass
class Mailbox:
    """`mails`: the text of each mail, with its headers; `recipients` of the last; `password`: b"" lets everybody in."""

    password: bytes = b""
    mails: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Session)
        self._server.owner = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        owner: Mailbox = self.server.owner  # type: ignore[attr-defined]
        self._say("220 here")
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            word = line.split(" ")[0].upper()
            if word == "EHLO":
                self.wfile.write(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif word == "AUTH":
                given = base64.b64decode(line.split(" ")[2]).split(b"\0")[2]
                self._say("235 welcome" if given == owner.password else "535 who are you?")
            elif word == "RCPT":
                owner.recipients.append(line.partition("<")[2].rstrip(">"))
                self._say("250 ok")
            elif word == "DATA":
                self._say("354 go on")
                owner.mails.append(self._text())
                self._say("250 ok")
            elif word == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _text(self) -> str:
        lines = []
        while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
            lines.append(line)
        return "\n".join(lines)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
