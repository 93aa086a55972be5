"""What the `pusher` package for Python publishes, signs and asks, heard by pusher-js.

The subscriptions are authorised by signatures of the package; the listener is `harness/listen.js`.
The package takes no app id but digits, so not that of the development app.
"""

import base64
import json
import os
import queue
import re
import subprocess
import sys
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pusher
from pusher.errors import PusherBadAuth, PusherBadRequest, PusherBadStatus

CLIENTS = Path(__file__).resolve().parent.parent
WORK = CLIENTS.parent / ".work"
BINARY = os.environ.get(
    "TESTED_BINARY", CLIENTS.parent.parent / "target/simulation/shardcast"
)

# Far longer than anything takes on loopback; a failing test waits for it.
WAIT_SECS_MAX = 10

# Small, because the package itself refuses data over 30 KiB.
DATA_BYTES_MAX = 2048

APP = {"app_id": "4711", "key": "a-key", "secret": "a-secret"}
PREFIXES = ["", "private-", "presence-", "private-encrypted-"]
MEMBER = {"user_id": "ann", "user_info": {"name": "Ann"}}
MASTER_KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Server:
    """The binary, with one app, on a port that the kernel chooses."""

    def __init__(self, shards, webhooks=(), **settings):
        WORK.mkdir(exist_ok=True)
        self.log = open(WORK / f"server-python-{shards}.log", "w")
        config = WORK / f"server-python-{shards}.toml"
        defaults = {
            "host": "127.0.0.1",
            "port": 0,
            "metrics_port": 0,
            "shards": shards,
            "shutdown_grace_secs": 0,
            "event_data_bytes_max": DATA_BYTES_MAX,
        }
        app = {"id": APP["app_id"], "key": APP["key"], "secret": APP["secret"]}
        lines = [*self.lines({**defaults, **settings}), "[[apps]]", *self.lines(app)]
        for endpoint in webhooks:
            lines += ["[[apps.webhooks]]", *self.lines(endpoint)]
        config.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [BINARY, "--config", config], stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        banner = iter(self.process.stdout.readline, "")
        self.port = next(
            int(found[1])
            for found in (re.search(r"listens on 127\.0\.0\.1:(\d+)", line) for line in banner)
            if found
        )

    @staticmethod
    def lines(table):
        return [f"{name} = {json.dumps(value)}" for name, value in table.items()]

    def stop(self):
        self.process.terminate()
        status = self.process.wait(WAIT_SECS_MAX)
        self.process.stdout.close()
        self.log.close()
        assert status == 0, f"the server ended with {status}"


class AuthEndpoint:
    """Authorises every channel and signs in every user, as the back end of an application does."""

    def __init__(self, client):
        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                socket_id = form["socket_id"][0]
                if "user" in form:
                    user = {"id": form["user"][0], "user_info": {"name": "Ann"}}
                    auth = client.authenticate_user(socket_id, user)
                else:
                    channel = form["channel_name"][0]
                    member = MEMBER if channel.startswith("presence-") else None
                    auth = client.authenticate(channel, socket_id, member)
                if "shared_secret" in auth:
                    auth["shared_secret"] = auth["shared_secret"].decode()
                body = json.dumps(auth).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class Listener:
    """A pusher-js client that is subscribed to `channels`; signed in as the user of `@user`."""

    def __init__(self, port, endpoint, channels):
        self.process = subprocess.Popen(
            ["node", CLIENTS / "harness/listen.js", str(port), APP["key"], endpoint, *channels],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        word, self.socket_id = self.next()
        assert word == "connected", word
        self.subscribed = {}
        while len(self.subscribed) < len(channels):
            word, channel, detail = self.next()
            assert word == "subscribed", (word, channel, detail)
            self.subscribed[channel] = detail

    def _read(self):
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def next(self):
        return self.said.get(timeout=WAIT_SECS_MAX)

    def take(self, count):
        """That many `["event", channel, event, data]`."""
        return [self.next() for _ in range(count)]

    def stop(self):
        self.process.communicate(timeout=WAIT_SECS_MAX)


class Publish:
    """The tests; each subclass has its number of shards."""

    shards: int

    @classmethod
    def setUpClass(cls):
        cls.server = Server(cls.shards)
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.client_with()
        cls.endpoint = AuthEndpoint(cls.client)
        cls.addClassCleanup(cls.endpoint.stop)

    @classmethod
    def client_with(cls, **options):
        defaults = {
            "host": "127.0.0.1",
            "port": cls.server.port,
            "ssl": False,
            "encryption_master_key_base64": MASTER_KEY,
        }
        return pusher.Pusher(**{**APP, **defaults, **options})

    def listen(self, *channels):
        listener = Listener(self.server.port, self.endpoint.url, channels)
        self.addCleanup(listener.stop)
        return listener

    def test_an_event_reaches_channels_of_every_type(self):
        prefixes = PREFIXES + [prefix + "cache-" for prefix in PREFIXES]
        names = [prefix + "room" for prefix in prefixes]
        listener = self.listen(*names)
        data = {"eur": 1.5, "text": "Grüße, ☃ and 🦀", "list": [1, None, True]}
        for name in names:
            self.assertEqual(self.client.trigger(name, "price", data), {"ok": True})
            self.assertEqual(listener.next(), ["event", name, "price", data])

    def test_a_subscription_signed_here_makes_a_member(self):
        listener = self.listen("presence-signed")
        members = listener.subscribed["presence-signed"]
        self.assertEqual(members["members"], {"ann": {"name": "Ann"}})
        self.assertEqual(members["me"], {"id": "ann", "info": {"name": "Ann"}})

    def test_a_cached_event_waits_for_its_subscriber(self):
        self.client.trigger("private-encrypted-cache-kept", "price", {"eur": 2})
        listener = self.listen("private-encrypted-cache-kept")
        self.assertEqual(
            listener.next(), ["event", "private-encrypted-cache-kept", "price", {"eur": 2}]
        )

    def test_one_event_goes_to_many_channels(self):
        names = ["many", "presence-many", "private-many"]
        listener = self.listen(*names)
        self.client.trigger(names, "to-all", "plain text")
        heard = sorted(listener.take(3))
        self.assertEqual(heard, [["event", name, "to-all", "plain text"] for name in names])

    def test_the_excluded_connection_hears_nothing(self):
        excluded, other = self.listen("exclude"), self.listen("exclude")
        self.client.trigger("exclude", "first", 1, excluded.socket_id)
        self.client.trigger("exclude", "second", 2)
        self.assertEqual(excluded.next(), ["event", "exclude", "second", 2])
        self.assertEqual(other.next(), ["event", "exclude", "first", 1])

    def test_a_user_hears_what_is_sent_to_it_until_it_is_terminated(self):
        listeners = [self.listen("@ann"), self.listen("@ann")]
        bystander = self.listen("@bob")
        user = {"id": "ann", "user_info": {"name": "Ann"}}
        self.assertEqual([one.subscribed["@ann"] for one in listeners], [user, user])
        self.client.send_to_user("ann", "greet", {"text": "Grüße"})
        for listener in listeners:
            self.assertEqual(listener.next(), ["user", "greet", {"text": "Grüße"}])
        # The package posts it to a path without the app.
        self.assertEqual(self.client.terminate_user_connections("ann"), {})
        for listener in listeners:
            self.assertEqual(listener.next(), ["error", 4009])
        self.client.send_to_user("bob", "last", "one")
        self.assertEqual(bystander.next(), ["user", "last", "one"])

    def test_a_batch_is_delivered_in_its_order(self):
        listener = self.listen("batch", "private-encrypted-batch")
        batch = [{"channel": "batch", "name": "step", "data": {"n": n}} for n in range(9)]
        batch.append({"channel": "private-encrypted-batch", "name": "last", "data": "x"})
        self.assertEqual(self.client.trigger_batch(batch), {})
        heard = listener.take(10)
        self.assertEqual(
            [said for said in heard if said[1] == "batch"],
            [["event", "batch", "step", {"n": n}] for n in range(9)],
        )
        self.assertIn(["event", "private-encrypted-batch", "last", "x"], heard)

    def test_questions_are_answered_in_the_form_that_the_package_reads(self):
        # Peers 18: the package sends the digest of an empty body with every question.
        self.assertEqual(self.client.channels_info("asked-"), {"channels": {}})
        self.assertEqual(self.client.users_info("presence-asked"), {"users": []})
        self.listen("asked-public", "presence-asked", "private-cache-asked")
        self.assertEqual(self.client.channels_info("asked-"), {"channels": {"asked-public": {}}})
        self.assertEqual(
            self.client.channels_info("presence-asked", ["user_count"]),
            {"channels": {"presence-asked": {"user_count": 1}}},
        )
        self.assertEqual(
            self.client.channel_info("presence-asked", ["user_count", "subscription_count"]),
            {"occupied": True, "user_count": 1, "subscription_count": 1},
        )
        self.assertEqual(self.client.channel_info("asked-nobody"), {"occupied": False})
        self.assertEqual(self.client.users_info("presence-asked"), {"users": [{"id": "ann"}]})
        self.client.trigger("private-cache-asked", "price", {"eur": 3})
        cache = self.client.channel_info("private-cache-asked", ["cache"])["cache"]
        self.assertEqual(json.loads(cache["data"]), {"eur": 3})
        for question in (
            lambda: self.client.channels_info(attributes=["user_count"]),
            lambda: self.client.channel_info("asked-public", ["user_count"]),
            lambda: self.client.users_info("asked-public"),
        ):
            with self.assertRaisesRegex(PusherBadRequest, "presence"):
                question()

    def test_refusals_raise_what_the_package_documents(self):
        publish = ("refused", "event", "data")
        refusals = [
            ({"secret": "wrong"}, publish, PusherBadAuth, "signature"),
            ({"key": "nobody"}, publish, PusherBadAuth, "auth_key"),
            ({"app_id": "0"}, publish, PusherBadStatus, "404"),
            ({}, ("refused", "pusher:x", ""), PusherBadRequest, "name"),
            ({}, ("refused", "e", "x" * (DATA_BYTES_MAX + 1)), PusherBadStatus, "413"),
        ]
        listener = self.listen("refused")
        for options, arguments, error, text in refusals:
            with self.subTest(options=options, event=arguments[1]):
                with self.assertRaisesRegex(error, text):
                    self.client_with(**options).trigger(*arguments)
        self.client.trigger("refused", "last", "one")
        self.assertEqual(listener.next(), ["event", "refused", "last", "one"])


class OneShard(Publish, unittest.TestCase):
    shards = 1


class ThreeShards(Publish, unittest.TestCase):
    shards = 3


def run():
    """Runs the tests of the file that is the program, prints their count, gives its status."""
    result = unittest.main(exit=False, verbosity=2).result
    faults = [getattr(test, "test_case", test) for test, _ in result.failures + result.errors]
    failed = len({test.id() for test in faults})
    print(f"{max(result.testsRun - failed, 0)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
