# python3 authorizer.py
import hmac, json, os, re, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = os.environ.get("AUTHORIZER_KEY", "").encode()  # without it signatures are not checked

def is_signed(header, body):
    t = re.match("t=([0-9]{1,12}),", header)
    if not t or abs(time.time() - int(t[1])) > 60:
        return False
    expected = hmac.new(KEY, t[1].encode() + b"." + body, "sha256").hexdigest()
    return any([hmac.compare_digest(v1, expected) for v1 in re.findall(",v1=([0-9a-f]{64})", header)])

def decide(question):
    user = {"abc": 42}.get(question["connection"]["query"].get("token", [""])[0])
    channels = ["hello", f"user:{user}"]
    if not user:
        return {"status": 403, "message": "unknown token"}
    if question["command"] in ("connect", "refresh"):
        allow = {"join": channels, "broadcast": channels}  # wsify need not ask about these
        return {"status": 200, "user": user, "allow": allow, "expires_in": 3600}
    if question["args"]["channel"] in channels:
        return {"status": 200}
    return {"status": 403, "message": f"not for user {user}"}

class Authorizer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps the connection alive between questions
    wbufsize = -1  # sends an answer in one piece

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if KEY and not is_signed(self.headers.get("X-Wsify-Signature", ""), body):
            return self.answer(401)
        try:
            questions = json.loads(body)
        except (ValueError, RecursionError):  # a bad question must not fail a batch for good: see docs/authorizer.md#batches
            return self.answer(500 if body.startswith(b"[") else 400)
        if isinstance(questions, list):  # with --authorizer-batch
            return self.answer(200, [decide(question) for question in questions])
        decision = decide(questions)
        self.answer(decision["status"], decision)

    def answer(self, status, fields={}):
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.wsify+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", 8000), Authorizer).serve_forever()
