// The application's back end that webhooks are posted to. It only keeps what comes: headers as Node
// gives them and the raw body, which is what the `pusher` library validates.

import { once } from "node:events";
import { createServer } from "node:http";

import { Heard } from "./heard.js";

export class Receiver {
  /** Requests in the order in which they came. */
  heard = new Heard("webhooks");
  #http = createServer((request, response) => this.#take(request, response));

  static async start() {
    const receiver = new Receiver();
    receiver.#http.listen(0, "127.0.0.1");
    await once(receiver.#http, "listening");
    receiver.url = `http://127.0.0.1:${receiver.#http.address().port}/webhooks`;
    return receiver;
  }

  async stop() {
    this.#http.closeAllConnections();
    this.#http.close();
  }

  async #take(request, response) {
    let rawBody = "";
    request.setEncoding("utf8");
    for await (const piece of request) rawBody += piece;
    this.heard.push({ headers: request.headers, rawBody });
    response.writeHead(200).end();
  }
}
