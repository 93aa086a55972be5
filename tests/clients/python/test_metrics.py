"""What the `prometheus-client` package for Python reads out of the server's metrics.

Its parser is that of Prometheus' own text format: a name, a label or a histogram that it does not
take would be lost to every board.
"""

import re
import sys
import unittest
import urllib.request

import pusher
from prometheus_client.parser import text_string_to_metric_families
from test_publish import APP, Listener, Server, run

TYPES = {
    "shardcast_connected": "gauge",
    "shardcast_new_connections": "counter",
    "shardcast_socket_transmitted_bytes": "counter",
    "shardcast_active_channels": "gauge",
    "shardcast_broadcast_latency_ms": "histogram",
    "shardcast_shard_turn_seconds": "histogram",
    "process_cpu_seconds": "counter",
}


class Metrics(unittest.TestCase):
    def setUp(self):
        self.server = Server(3)
        self.addCleanup(self.server.stop)
        lines = iter(self.server.process.stdout.readline, "")
        found = (re.search(r"Metrics are on (http://\S+/metrics)\.", line) for line in lines)
        self.url = next(match[1] for match in found if match)

    def families(self):
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            text = answer.read().decode()
        families = list(text_string_to_metric_families(text))
        names = [family.name for family in families]
        self.assertEqual(len(names), len(set(names)), "a family is told twice")
        return {family.name: family for family in families}

    def test_every_family_is_read_with_its_type_and_its_series(self):
        listener = Listener(self.server.port, "http://127.0.0.1:1/", ["news"])
        self.addCleanup(listener.stop)
        client = pusher.Pusher(
            **APP, host="127.0.0.1", port=self.server.port, ssl=False
        )
        client.trigger("news", "event", "data")
        self.assertEqual(listener.next(), ["event", "news", "event", "data"])
        families = self.families()
        for name, kind in TYPES.items():
            self.assertEqual(families[name].type, kind, name)
        labels = {"app_id": APP["app_id"], "port": str(self.server.port)}
        for name, value in [("shardcast_connected", 1), ("shardcast_http_calls_received", 1)]:
            [sample] = [s for s in families[name].samples if s.labels == labels]
            self.assertEqual(sample.value, value, name)
        latency = families["shardcast_broadcast_latency_ms"].samples
        buckets = [s for s in latency if s.name.endswith("_bucket")]
        counts = [s.value for s in buckets]
        self.assertEqual(buckets[-1].labels["le"], "+Inf")
        self.assertEqual((counts, counts[-1]), (sorted(counts), 1))

    def test_nothing_is_counted_before_anybody_comes(self):
        families = self.families()
        for name in ["shardcast_connected", "shardcast_active_channels"]:
            self.assertEqual({s.value for s in families[name].samples}, {0}, name)


if __name__ == "__main__":
    sys.exit(run())
