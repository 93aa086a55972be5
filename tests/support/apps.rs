//! The apps of the cases, and the configuration that holds them.

use std::fmt::Display;

use shardcast::pusher::signature::SigningKey;

/// An app as its owner knows it.
#[derive(Clone, Copy, Debug)]
pub struct App {
    pub id: &'static str,
    pub key: &'static str,
    pub secret: &'static str,
    /// Its lines in the file, beside id, key and secret.
    pub settings: &'static str,
}

/// Client events on; small limits. Id, key and secret are those of Pusher's own examples.
pub const A: App = App {
    id: "3",
    key: "278d425bdf160c739803",
    secret: "7ad3773142a6692b25b8",
    settings: "client_events = true\nevent_data_bytes_max = 10240\npresence_members_max = 3\n",
};

/// Client events off; the default limits.
pub const B: App = App {
    id: "b-id",
    key: "b-key",
    secret: "b-secret",
    settings: "",
};

/// Disabled.
pub const D: App = App {
    id: "d-id",
    key: "d-key",
    secret: "d-secret",
    settings: "enabled = false\n",
};

/// One connection at a time.
pub const Q: App = App {
    id: "q-id",
    key: "q-key",
    secret: "q-secret",
    settings: "connections_max = 1\n",
};

/// TLS only.
pub const T: App = App {
    id: "t-id",
    key: "t-key",
    secret: "t-secret",
    settings: "tls_only = true\n",
};

/// Pages of one origin only.
pub const O: App = App {
    id: "o-id",
    key: "o-key",
    secret: "o-secret",
    settings: "allowed_origins = [\"https://ok.example\"]\n",
};

/// Watchlists on.
pub const W: App = App {
    id: "w-id",
    key: "w-key",
    secret: "w-secret",
    settings: "watchlist = true\n",
};

impl App {
    /// The target that pusher-js 8 connects to.
    pub fn target(&self) -> String {
        self.target_with("protocol=7&client=js&version=8.6.0&flash=false")
    }

    /// The same with another query.
    pub fn target_with(&self, query: &str) -> String {
        format!("/app/{}?{query}", self.key)
    }

    /// The lower-case hex HMAC-SHA256 of a text.
    pub fn sign(&self, text: &str) -> String {
        let hex = SigningKey::new(self.secret.as_bytes()).sign_hex(&[text.as_bytes()]);
        String::from_utf8(hex.to_vec()).unwrap()
    }

    /// The `auth` of a subscription (WebSocket spec 7.2).
    pub fn auth(&self, socket_id: &str, channel: &str, channel_data: Option<&str>) -> String {
        let signed = match channel_data {
            None => format!("{socket_id}:{channel}"),
            Some(data) => format!("{socket_id}:{channel}:{data}"),
        };
        format!("{}:{}", self.key, self.sign(&signed))
    }

    /// The `auth` of a sign-in.
    pub fn sign_in_auth(&self, socket_id: &str, user_data: &str) -> String {
        let signed = format!("{socket_id}::user::{user_data}");
        format!("{}:{}", self.key, self.sign(&signed))
    }
}

/// A configuration file in the making.
#[derive(Clone, Debug, Default)]
pub struct Config {
    settings: String,
    apps: String,
    environment: Vec<(String, String)>,
}

impl Config {
    /// All apps of the cases. Clients are pinged late, so that a slow test is no silent client.
    pub fn standard() -> Self {
        let mut config = Self::default().set("activity_timeout_secs", 120);
        for app in [A, B, D, Q, T, O, W] {
            config = config.app(&app, "");
        }
        config
    }

    /// One app alone; its own lines behind those that it has.
    pub fn only(app: &App, lines: &str) -> Self {
        Self::default().app(app, lines)
    }

    /// An option of the process, or the default of all apps, as TOML has it.
    pub fn set(mut self, option: &str, value: impl Display) -> Self {
        // The last of an option wins here; twice in a file is an error.
        let start = format!("{option} = ");
        self.settings = self
            .settings
            .lines()
            .filter(|line| !line.starts_with(&start))
            .map(|line| format!("{line}\n"))
            .collect();
        self.settings += &format!("{start}{value}\n");
        self
    }

    pub fn app(mut self, app: &App, lines: &str) -> Self {
        let App {
            id,
            key,
            secret,
            settings,
        } = app;
        self.apps += &format!(
            "\n[[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n{settings}{lines}\n"
        );
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    pub fn toml(&self) -> String {
        format!("{}{}", self.settings, self.apps)
    }
}
