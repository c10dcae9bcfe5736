// node authorizer.mjs
import { createServer } from "node:http";

createServer(async (request, response) => {
  let body = "";
  for await (const part of request.setEncoding("utf8")) body += part;
  const { command, args, connection } = JSON.parse(body);
  const user = new Map([["abc", 42]]).get(connection.query.token?.[0]);
  const allowed = user && (command === "connect" || ["hello", `user:${user}`].includes(args.channel));
  response.writeHead(allowed ? 200 : 403, { "Content-Length": 0 }).end();
}).listen(8000, "127.0.0.1");
