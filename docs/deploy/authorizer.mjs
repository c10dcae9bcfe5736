// node authorizer.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";

const key = process.env.AUTHORIZER_KEY; // without it every question is believed

function isSigned(header, body) {
  const [, t] = header.match(/^t=(\d{1,12}),/) ?? [];
  if (!t || Math.abs(Date.now() / 1000 - t) > 60) return false;
  const expected = createHmac("sha256", key).update(`${t}.`).update(body).digest();
  return [...header.matchAll(/,v1=([0-9a-f]{64})/g)].some(([, v1]) => timingSafeEqual(Buffer.from(v1, "hex"), expected));
}

async function authorize(request) {
  const body = await buffer(request);
  if (key && !isSigned(request.headers["x-wsify-signature"] ?? "", body)) return 401;
  const { command, args, connection } = JSON.parse(body);
  const user = new Map([["abc", 42]]).get(connection.query.token?.[0]);
  const allowed = user && (command === "connect" || ["hello", `user:${user}`].includes(args.channel));
  return allowed ? 200 : 403;
}

createServer(async (request, response) => {
  const status = await authorize(request).catch(() => 400);
  response.writeHead(status, { "Content-Length": 0 }).end();
}).listen(8000, "127.0.0.1");
