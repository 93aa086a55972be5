//! What the server says at its start, for a person who runs it for the first time.
//!
//! Text only; whoever serves writes it. Invariant: a secret is in it only where everybody knows it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::sign::{Origin, Request, reachable};
use super::sign_for;
use crate::config::{Loaded, show_cores};

/// What only the running server knows.
#[derive(Clone, Copy, Debug)]
pub struct Listening<'a> {
    /// Also where the configuration says 0.
    pub port: u16,
    /// `io_uring`, or `epoll` with the reason.
    pub driver: &'a str,
    /// Unix time, which the signature begins at.
    pub now_secs: u64,
    /// Where metrics are, if they are served.
    pub metrics: Option<SocketAddr>,
}

const CHANNEL: &str = "my-channel";
const EVENT: &str = "my-event";
const DATA: &str = r#"{"message":"hello"}"#;

/// Where and how it listens; whom to warn; how to publish and how to connect.
pub fn banner(loaded: &Loaded, listening: Listening<'_>) -> String {
    let config = &loaded.config;
    let app = loaded
        .apps
        .iter()
        .next()
        .expect("a configuration has an app");
    let origin = Origin {
        host: config.host,
        port: listening.port,
        path_prefix: &config.path_prefix,
    };
    let address = reachable(origin);
    let mut out = format!(
        "shardcast {} listens on {} with {} on cores {}, driver {}.\n",
        env!("CARGO_PKG_VERSION"),
        SocketAddr::new(config.host, listening.port),
        shards(config.shards),
        show_cores(&config.cores),
        listening.driver,
    );
    if let Some(address) = listening.metrics {
        let _ = writeln!(out, "Metrics are on http://{address}/metrics.");
    }
    for notice in &loaded.notices {
        let _ = writeln!(out, "Notice: {notice}.");
    }
    if loaded.development {
        out.push_str(WARNING);
        let publish = Request::publish(app, CHANNEL, EVENT, DATA);
        if let Ok(request) = sign_for(publish, app, loaded, listening.port, listening.now_secs) {
            let _ = write!(
                out,
                "\nPublish (valid for ten minutes):\n\n  {}\n",
                request.curl()
            );
        }
    }
    let _ = write!(
        out,
        "\nSign a publish at any time, or send one:\n\n  \
         shardcast sign {CHANNEL} {EVENT} '{DATA}'\n  \
         shardcast publish {CHANNEL} {EVENT} '{DATA}'\n\
         \nConnect with pusher-js:\n\n  \
         const pusher = new Pusher(\"{key}\", {{\n    \
         cluster: \"\", wsHost: \"{host}\", wsPort: {port},{path} forceTLS: false,\n    \
         enabledTransports: [\"ws\"], disableStats: true,\n  }});\n  \
         pusher.subscribe(\"{CHANNEL}\").bind(\"{EVENT}\", (data) => console.log(data));\n",
        key = app.keys[0].key,
        host = bracketed(address.ip()),
        port = address.port(),
        path = match &*config.path_prefix {
            "" => String::new(),
            prefix => format!(" wsPath: \"{prefix}\","),
        },
    );
    out
}

const WARNING: &str = "
  ############################################################################
  #  DEVELOPMENT CREDENTIALS: an app has the secret that everybody knows.     #
  #  Whoever reaches this port can publish and read everything. Before        #
  #  anybody else can: set SHARDCAST_APP_ID, SHARDCAST_APP_KEY and            #
  #  SHARDCAST_APP_SECRET, or list your own [[apps]] in a file.               #
  ############################################################################
";

fn shards(count: usize) -> String {
    match count {
        1 => "1 shard".into(),
        _ => format!("{count} shards"),
    }
}

/// As it stands in a URL, which is what pusher-js makes of it.
fn bracketed(host: std::net::IpAddr) -> String {
    match host {
        std::net::IpAddr::V4(host) => host.to_string(),
        std::net::IpAddr::V6(host) => format!("[{host}]"),
    }
}
