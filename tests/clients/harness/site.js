// The application's own web server: it authorises channels and signs users in, as a customer's back
// end does, and serves the page.
//
// Signs with the `pusher` library only. Says what the client may be by what the client asks for,
// which a real one must not do: `member` is the presence data to sign, none where the signed-in user
// is the member; `user` is the user data. A channel name that contains `forbidden` is refused with
// 403, one that contains `forged` gets the signature of another channel, a user id that does gets that of another socket.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";

const CONTENT_TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };

export class Site {
  #publisher;
  #files;
  #http = createServer((request, response) => this.#answer(request, response));

  /** `files` maps paths to files. */
  constructor(publisher, files = {}) {
    this.#publisher = publisher;
    this.#files = files;
  }

  async start() {
    this.#http.listen(0, "127.0.0.1");
    await once(this.#http, "listening");
    this.url = `http://127.0.0.1:${this.#http.address().port}`;
  }

  async stop() {
    this.#http.closeAllConnections();
    this.#http.close();
  }

  async #answer(request, response) {
    const { pathname } = new URL(request.url, this.url);
    if (pathname === "/auth") return this.#authorize(request, response);
    if (pathname === "/user-auth") return this.#authenticate(request, response);
    const file = this.#files[pathname];
    if (!file) return response.writeHead(404).end();
    const type = CONTENT_TYPES[extname(file)];
    response.writeHead(200, { "content-type": `${type}; charset=utf-8` });
    response.end(await readFile(file));
  }

  async #authenticate(request, response) {
    const form = await this.#form(request);
    const user = JSON.parse(form.get("user"));
    const socketId = user.id.includes("forged") ? "1.1" : form.get("socket_id");
    const auth = this.#publisher.authenticateUser(socketId, user);
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(auth));
  }

  async #form(request) {
    let body = "";
    for await (const piece of request) body += piece;
    return new URLSearchParams(body);
  }

  async #authorize(request, response) {
    const form = await this.#form(request);
    const channel = form.get("channel_name");
    if (channel.includes("forbidden")) return response.writeHead(403).end();

    const socketId = form.get("socket_id");
    const member = channel.startsWith("presence-") ? JSON.parse(form.get("member")) : null;
    const auth = this.#publisher.authorizeChannel(socketId, channel, member ?? undefined);
    if (channel.includes("forged")) {
      auth.auth = this.#publisher.authorizeChannel(socketId, "private-other").auth;
    }
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(auth));
  }
}
