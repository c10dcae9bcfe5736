# python3 receiver.py
import json, sqlite3
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        db = sqlite3.connect("events.db", isolation_level=None)
        db.execute("create table if not exists seen (node primary key, seq)")
        db.execute("create table if not exists online (id primary key, connection)")
        db.execute("begin immediate")  # a batch and its last number are written together, or not at all
        (last,) = db.execute("select max(seq) from seen where node = ?", [batch["node"]]).fetchone()
        for event in batch["events"]:
            if event["seq"] <= (last or 0):
                continue  # it has come before
            if event["event"] == "connected":
                db.execute("insert into online values (?, ?)", [event["connection"]["id"], json.dumps(event["connection"])])
            elif event["event"] == "disconnected":
                db.execute("delete from online where id = ?", [event["connection"]["id"]])
            last = event["seq"]
        db.execute("replace into seen values (?, ?)", [batch["node"], last])
        db.execute("commit")
        db.close()
        self.send_response(204)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", 9000), Receiver).serve_forever()
