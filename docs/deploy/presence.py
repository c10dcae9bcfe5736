# python3 presence.py
import hmac, json, os, re, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

WSIFY = "http://localhost:3000"
BROADCASTING_KEY = os.environ.get("BROADCASTING_KEY", "")
AUTHORIZER_KEY = os.environ.get("AUTHORIZER_KEY", "").encode()  # without it signatures are not checked
FILES = {"/": ("presence.html", "text/html; charset=utf-8"), "/wsify.js": ("wsify.js", "text/javascript")}

online = {}  # the name of each connection
seen = {}  # the last event of each node
lock = threading.Lock()

def wsify(path, body=None):
    headers = {"Authorization": f"Bearer {BROADCASTING_KEY}", "Content-Type": "application/json"}
    with urlopen(Request(WSIFY + path, body and json.dumps(body).encode(), headers), timeout=5) as answer:
        return answer.read()

def take_list():
    global online, seen
    connections, seqs, after = {}, {}, ""
    while after is not None:
        page = json.loads(wsify(f"/connections?channel=chat&limit=1000&after={after}"))
        connections |= {it["id"]: it["user"] for it in page["connections"]}
        seqs = page["seq"] | seqs  # those of the first page: what happens later is also in an event
        after = page.get("next")
    online, seen = connections, seqs

def take_events(node, events):
    for event in events:
        if event["seq"] > seen.get(node, -1) + 1:  # a new node, or events were dropped
            take_list()
        if event["seq"] <= seen.setdefault(node, event["seq"] - 1):
            continue  # it has come before, or the list has it
        if event["event"] == "connected":
            online[event["connection"]["id"]] = event["connection"]["user"]
        elif event["event"] == "disconnected":
            online.pop(event["connection"]["id"], None)
        seen[node] = event["seq"]
    if events:  # repeated ones too: the previous call may have failed here
        wsify("/broadcast", {"channel": "online", "content": sorted(set(online.values()))})

def decide(question):
    connection, args = question["connection"], question["args"]
    name = connection["query"].get("name", [""])[0]
    if question["command"] == "connect" and re.fullmatch(r"\w{1,20}", name):
        return {"status": 200, "user": name, "channels": ["chat", "online"]}
    if question["command"] == "broadcast" and args["channel"] == "chat":
        content = args.get("content")
        return {"status": 200 if isinstance(content, dict) and content.get("from") == connection["user"] else 403}
    return {"status": 403}

def is_signed(header, body):
    t = re.match("t=([0-9]{1,12}),", header)
    if not t or abs(time.time() - int(t[1])) > 60:
        return False
    expected = hmac.new(AUTHORIZER_KEY, t[1].encode() + b"." + body, "sha256").hexdigest()
    return any([hmac.compare_digest(v1, expected) for v1 in re.findall(",v1=([0-9a-f]{64})", header)])

class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections alive
    wbufsize = -1  # sends an answer in one piece

    def do_GET(self):
        name, type = FILES.get(self.path.split("?")[0], (None, None))
        self.answer(200, Path(__file__).with_name(name).read_bytes(), type) if name else self.answer(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if AUTHORIZER_KEY and not is_signed(self.headers.get("X-Wsify-Signature", ""), body):
            return self.answer(401)
        try:
            call = json.loads(body)
            if "command" in call:
                decision = decide(call)
                return self.answer(decision["status"], json.dumps(decision).encode(), "application/vnd.wsify+json")
            with lock:
                take_events(call["node"], call["events"])
            self.answer(200)
        except OSError:
            self.answer(503)  # wsify sends the events again
        except (ValueError, RecursionError):
            self.answer(400)

    def answer(self, status, body=b"", type="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("127.0.0.1", 8000), Backend)  # calls wait until the list is there
try:
    take_list()
except OSError:
    pass  # wsify is not up: its first event makes take_events fetch the list
server.serve_forever()
