"""A local server that speaks as chat models do, or errs as a test wants it to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def said(text, **more):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}, **more}]}).encode()


class Answering(BaseHTTPRequestHandler):
    """One request; `say` answers it as a model does, `send` in any other way."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = self.server.chat
        with chat.lock:
            number = len(chat.requests)
            chat.requests.append(body)
            chat.headers.append((self.path, dict(self.headers)))
        try:
            chat.script(self, number, body)
        except OSError:  # the client has hung up
            self.close_connection = True

    def say(self, text, **more):
        self.send(said(text, **more))

    def send(self, content, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class ChatServer:
    """Answers by a script: a function of the request's handler, its number and its body."""

    def __init__(self, script):
        self.script, self.lock = script, threading.Lock()
        self.requests, self.headers = [], []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._http.daemon_threads = True
        self._http.chat = self
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
