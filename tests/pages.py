"""Metrics pages that are not what they should be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deploy.local.ports import DIRECTLY, HOST


@contextmanager
def page_cut_down(port: int, beginning: str) -> Iterator[tuple[int, threading.Event]]:
    """Serve the page at a port with only the lines that begin with ``beginning``.

    Yield the new port, and an event that is set once the page was served.
    """
    served = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with DIRECTLY.open(f"http://{HOST}:{port}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines(keepends=True)
            content = "".join(line for line in lines if line.startswith(beginning)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            served.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
