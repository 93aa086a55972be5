"""Publishes with the `pusher` package what it reads: lines of `[channel, event, data]` in JSON.

    publish.py PORT APP_ID KEY SECRET MASTER_KEY < events

MASTER_KEY is that of encrypted channels, in base64.
"""

import json
import sys

import pusher

port, app_id, key, secret, master_key = sys.argv[1:]
client = pusher.Pusher(
    app_id=app_id,
    key=key,
    secret=secret,
    host="127.0.0.1",
    port=int(port),
    ssl=False,
    encryption_master_key_base64=master_key,
)
for line in sys.stdin:
    client.trigger(*json.loads(line))
