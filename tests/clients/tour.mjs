// Node's `ws` through wsify. Takes the scene and its URL, prints one JSON object with what it saw.

import { createInterface } from "node:readline";
import { WebSocket } from "ws";

const [scene, url] = process.argv.slice(2);

/** Opens a client; its messages queue up until they are asked for. */
function open(options = {}, protocols = []) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, protocols, options);
    const queue = [];
    const waiting = [];
    ws.hear = () => new Promise((heard) => (queue.length ? heard(queue.shift()) : waiting.push(heard)));
    ws.ask = (message) => (ws.send(JSON.stringify(message)), ws.hear().then(JSON.parse));
    ws.ended = new Promise((ended) => ws.on("close", (code, reason) => ended({ code, reason: reason.toString() })));
    ws.on("message", (data, isBinary) => {
      const text = isBinary ? "binary!" : data.toString();
      waiting.length ? waiting.shift()(text) : queue.push(text);
    });
    ws.on("open", () => resolve(ws));
    ws.on("error", reject);
  });
}

/** The status and headers that a handshake is refused with. */
function refused(options = {}) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, options);
    ws.on("unexpected-response", (request, response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => resolve({ status: response.statusCode, retry: response.headers["retry-after"], body }));
    });
    ws.on("open", () => reject(new Error("it was upgraded")));
    ws.on("error", reject);
  });
}

const scenes = {
  async tour() {
    const one = await open();
    const two = await open({}, ["wsify.v1"]);
    const seen = { extensions: one.extensions, protocol: two.protocol, acks: [] };
    seen.welcome = JSON.parse(await two.hear()).welcome.channels;
    for (const ws of [one, two]) seen.acks.push(await ws.ask({ command: "join", args: { channel: "node" }, id: 1 }));
    one.send('{"command":"broadcast","args":{"channel":"node","content":[1.0, "é"]}}');
    seen.heard = [await one.hear(), await two.hear()];
    const pong = new Promise((resolve) => one.on("pong", (data) => resolve(data.toString())));
    one.ping("hello");
    seen.pong = await pong;
    // Binary, and in fragments.
    one.send(Buffer.from('{"command":"broadcast","args":{"chan'), { fin: false, binary: true });
    one.send(Buffer.from('nel":"node","content":2}}'), { fin: true, binary: true });
    seen.fragments = await one.hear();
    seen.left = await one.ask({ command: "leave", args: { channel: "node" }, id: 2 });
    seen.error = await one.ask({ command: "connect", args: {}, id: 3 });
    one.close(4000, "done");
    seen.closed = await one.ended;
    two.terminate();
    return seen;
  },
  async compression() {
    const perMessageDeflate = { threshold: 0, serverMaxWindowBits: 10 };
    const all = [await open({ perMessageDeflate: { threshold: 0 } }), await open({ perMessageDeflate }), await open({ perMessageDeflate: false })];
    const seen = { extensions: all.map((ws) => ws.extensions), same: true };
    for (const ws of all) await ws.ask({ command: "join", args: { channel: "node" }, id: 1 });
    const content = Array.from({ length: 100 }, (_, n) => ({ user: `user-${n}`, "é": n }));
    for (const from of [...all, ...all]) {
      from.send(JSON.stringify({ command: "broadcast", args: { channel: "node", content } }));
      for (const ws of all) seen.same &&= (await ws.hear()) === JSON.stringify(content);
    }
    // In fragments.
    all[0].send('{"command":"broadcast","args":{"chan', { fin: false });
    all[0].send('nel":"node","content":2}}', { fin: true });
    for (const ws of all) seen.same &&= (await ws.hear()) === "2";
    all[1].send(Buffer.from('{"command":"broadcast","args":{"channel":"node","content":3}}'));
    for (const ws of all) seen.same &&= (await ws.hear()) === "3";
    return seen;
  },
  async refused() {
    return await refused();
  },
  async down() {
    const ws = await open();
    ws.send('{"command":"join","args":{"channel":"down"}}');
    return await ws.ended;
  },
  async large() {
    const ws = await open();
    const content = "x".repeat(1000000);
    await ws.ask({ command: "join", args: { channel: "node-large" }, id: 1 });
    ws.send(JSON.stringify({ command: "broadcast", args: { channel: "node-large", content } }));
    const same = JSON.parse(await ws.hear()) === content;
    ws.send(Buffer.alloc(1048577, 32));
    return { same, closed: await ws.ended };
  },
  // The program is replaced when the test is asked to, which answers with a line.
  async replaced() {
    const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const replace = () => (console.log("replace"), lines.next());
    const [plain, deflating, paused] = [await open({ perMessageDeflate: false }), await open({ perMessageDeflate: { threshold: 0 } }), await open()];
    for (const ws of [plain, deflating]) await ws.ask({ command: "join", args: { channel: "node" }, id: 1 });
    await paused.ask({ command: "join", args: { channel: "node-paused" }, id: 1 });
    paused.pause();
    plain.send('{"command":"broadcast","args":{"chan', { fin: false });
    await replace();
    plain.send('nel":"node",', { fin: false });
    await replace();
    plain.send('"content":"torn"}}');
    const seen = { fragments: await plain.hear() };
    seen.compressed = (await deflating.hear()) === seen.fragments;
    const content = "é".repeat(5000);
    deflating.send(`{"command":"broadcast","args":{"channel":"node","content":"${content}`, { fin: false });
    await replace();
    deflating.send('"}}');
    for (const ws of [plain, deflating]) seen.compressed &&= (await ws.hear()) === JSON.stringify(content);
    const pong = new Promise((resolve) => plain.on("pong", (data) => resolve(data.toString())));
    plain.ping("again");
    seen.pong = await pong;
    paused.resume();
    seen.paused = [];
    while (seen.paused.length < 120) seen.paused.push(JSON.parse(await paused.hear()).replace(/x+$/, ""));
    plain.close(4000, "done");
    seen.closed = (await plain.ended).code;
    return seen;
  },
};

scenes[scene]().then(
  (seen) => {
    console.log(JSON.stringify(seen));
    process.exit(0); // a kept-alive connection would hold it
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
