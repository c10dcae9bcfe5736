# python3 authorizer.py
import hmac, json, os, re, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = os.environ.get("AUTHORIZER_KEY", "").encode()  # without it every question is believed

def is_signed(header, body):
    t = re.match("t=([0-9]{1,12}),", header)
    if not t or abs(time.time() - int(t[1])) > 60:
        return False
    expected = hmac.new(KEY, t[1].encode() + b"." + body, "sha256").hexdigest()
    return any([hmac.compare_digest(v1, expected) for v1 in re.findall(",v1=([0-9a-f]{64})", header)])

class Authorizer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps the connection alive between questions

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if KEY and not is_signed(self.headers.get("X-Wsify-Signature", ""), body):
            return self.answer(401)
        question = json.loads(body)
        token = question["connection"]["query"].get("token", [""])[0]
        user = {"abc": 42}.get(token)
        connecting = question["command"] == "connect"
        allowed = user and (connecting or question["args"]["channel"] in ("hello", f"user:{user}"))
        self.answer(200 if allowed else 403)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

ThreadingHTTPServer(("127.0.0.1", 8000), Authorizer).serve_forever()
