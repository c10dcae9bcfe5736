// wsify.js
// protocols: "wsify.v1", or ["wsify.v1", token] to pass a token that stays out of URLs.
export function wsify(url, protocols, channels, onContent) {
  let socket, timer, failures = 0, done = false;

  function open() {
    socket = new WebSocket(url, protocols);
    socket.onopen = () => {
      for (const channel of channels) send("join", { channel });
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if ("welcome" in message) return;
      failures = 0; // not before: while the authorizer is down, a connection may open and close at once
      if ("content" in message) onContent(message.channel, message.content);
      else if (message.error) console.warn("wsify:", message.error);
    };
    socket.onclose = ({ code, reason }) => {
      if (done) return;
      if ([1002, 1007, 1009].includes(code) || code >= 4000) return console.error("wsify:", code, reason);
      // 1012: the server stops; another may be up in a second. 1013: the authorizer is down; give it time.
      // 1008: this client was too slow and missed messages. 1006: unknown. The random part is jitter.
      const least = { 1012: 1000, 1013: 5000, 1008: 1000 }[code] ?? 250;
      const most = Math.min(30_000, 500 * 2 ** failures++);
      timer = setTimeout(open, least + Math.random() * most);
    };
  }

  let id = 0;
  function send(command, args) {
    socket.send(JSON.stringify({ command, args, id: ++id }));
    return true;
  }

  open();
  return {
    broadcast: (channel, content) => socket.readyState === WebSocket.OPEN && send("broadcast", { channel, content }),
    close: () => { done = true; clearTimeout(timer); socket.close(1000); },
  };
}
