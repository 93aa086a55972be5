"""The `pusher` package for Python finds every webhook of the server valid and reads its events.

Subscriptions are those of pusher-js, see `harness/listen.js`. The package also
holds a webhook to its time: within five minutes of now.
"""

import json
import queue
import sys
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

import pusher
import test_publish
from test_publish import APP, MASTER_KEY, WAIT_SECS_MAX, AuthEndpoint, Listener, Server

# Those that a listener causes; client events are validated by the suite of Node.
KINDS = [
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "cache_miss",
    "subscription_count",
]
KEY, SIGNATURE = "X-Pusher-Key", "X-Pusher-Signature"


class Receiver:
    """Keeps headers, literally as they are written, and raw bodies."""

    def __init__(self):
        requests = self.requests = queue.Queue()

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                requests.put((dict(self.headers.items()), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def next(self):
        return self.requests.get(timeout=WAIT_SECS_MAX)

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class Webhooks:
    """The tests; each subclass has its number of shards."""

    shards: int

    @classmethod
    def setUpClass(cls):
        cls.receiver = Receiver()
        cls.addClassCleanup(cls.receiver.stop)
        endpoint = {"url": cls.receiver.url, "event_types": KINDS, "parallel_max": 1}
        settings = {"webhook_delay_ms": 100, "subscription_count": "on"}
        cls.server = Server(cls.shards, webhooks=[endpoint], **settings)
        cls.addClassCleanup(cls.server.stop)
        cls.client = pusher.Pusher(
            **APP,
            host="127.0.0.1",
            port=cls.server.port,
            ssl=False,
            encryption_master_key_base64=MASTER_KEY,
        )
        cls.endpoint = AuthEndpoint(cls.client)
        cls.addClassCleanup(cls.endpoint.stop)

    def validated(self, headers, body):
        return self.client.validate_webhook(headers[KEY], headers[SIGNATURE], body)

    def test_webhooks_of_every_kind_are_valid(self):
        channels = ["presence-room", "cache-kept", "private-encrypted-x"]
        listener = Listener(self.server.port, self.endpoint.url, channels)
        listener.stop()
        told = set()
        while not told.issuperset(KINDS):
            webhook = self.validated(*self.receiver.next())
            self.assertIsNotNone(webhook)
            self.assertIsInstance(webhook["time_ms"], int)
            for event in webhook["events"]:
                told.add(event["name"])
                if event["name"].startswith("member_"):
                    self.assertEqual(event["channel"], "presence-room")
                    self.assertEqual(event["user_id"], "ann")

    def test_what_is_not_as_it_was_sent_is_not_valid(self):
        listener = Listener(self.server.port, self.endpoint.url, ["checked"])
        listener.stop()
        headers, body = self.receiver.next()
        while "checked" not in body:
            headers, body = self.receiver.next()
        self.assertIsNotNone(self.validated(headers, body))
        self.assertIsNone(self.validated(headers, body + " "))
        self.assertIsNone(self.validated({**headers, KEY: "other"}, body))
        self.assertIsNone(self.validated({**headers, SIGNATURE: "0" * 64}, body))
        later = json.loads(body)["time_ms"] / 1000 + 301
        with mock.patch("time.time", return_value=later):
            self.assertIsNone(self.validated(headers, body))


class OneShard(Webhooks, unittest.TestCase):
    shards = 1


class ThreeShards(Webhooks, unittest.TestCase):
    shards = 3


if __name__ == "__main__":
    sys.exit(test_publish.run())
