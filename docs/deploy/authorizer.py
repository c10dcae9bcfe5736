# python3 authorizer.py
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Authorizer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps the connection alive between questions

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = question["connection"]["query"].get("token", [""])[0]
        user = {"abc": 42}.get(token)
        connecting = question["command"] == "connect"
        allowed = user and (connecting or question["args"]["channel"] in ("hello", f"user:{user}"))
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

ThreadingHTTPServer(("127.0.0.1", 8000), Authorizer).serve_forever()
