// node authorizer.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";

const key = process.env.AUTHORIZER_KEY; // without it signatures are not checked

function isSigned(header, body) {
  const [, t] = header.match(/^t=(\d{1,12}),/) ?? [];
  if (!t || Math.abs(Date.now() / 1000 - t) > 60) return false;
  const expected = createHmac("sha256", key).update(`${t}.`).update(body).digest();
  return [...header.matchAll(/,v1=([0-9a-f]{64})/g)].some(([, v1]) => timingSafeEqual(Buffer.from(v1, "hex"), expected));
}

function decide({ command, args, connection }) {
  const user = new Map([["abc", 42]]).get(connection.query.token?.[0]);
  const channels = ["hello", `user:${user}`];
  if (!user) return { status: 403, message: "unknown token" };
  const allow = { join: channels, broadcast: channels }; // wsify need not ask about these
  if (["connect", "refresh"].includes(command)) return { status: 200, user, allow, expires_in: 3600 };
  if (channels.includes(args.channel)) return { status: 200 };
  return { status: 403, message: `not for user ${user}` };
}

async function authorize(request) {
  const body = await buffer(request);
  if (key && !isSigned(request.headers["x-wsify-signature"] ?? "", body)) return { status: 401 };
  const batch = body[0] === 91; // [, with --authorizer-batch
  try {
    const questions = JSON.parse(body);
    return batch ? questions.map(decide) : decide(questions);
  } catch {
    return { status: batch ? 500 : 400 }; // see docs/authorizer.md#batches
  }
}

createServer(async (request, response) => {
  const answer = await authorize(request).catch(() => ({ status: 400 }));
  const body = Buffer.from(JSON.stringify(answer));
  const headers = { "Content-Type": "application/vnd.wsify+json", "Content-Length": body.length };
  response.writeHead(answer.status ?? 200, headers).end(body);
}).listen(8000, "127.0.0.1");
