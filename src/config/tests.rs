//! The configuration from end to end: files, environments and flags in, values or problems out.
//!
//! Every bound and every word of the table is tried, and every problem is compared as a person sees
//! it. Nothing here looks at this machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::load::{CONFIG_ENV, decide};
use super::table::{self, Lookup};
use super::value::{Kind, Unit, Value};
use super::{file, *};
use crate::app::webhook::{Endpoint, EndpointSettings, WebhookKind};
use crate::app::{App, AppSettings};

/// A machine with four cores and few descriptors.
fn host() -> Host {
    Host {
        cores: vec![0, 1, 2, 3],
        descriptors_max: 20_000,
    }
}

fn row(key: &str) -> &'static Row {
    table::all().find(|row| row.key == key).unwrap()
}

fn decide_from(
    file: &str,
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded, Vec<String>> {
    let sources = Sources {
        file: None,
        env: env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        flags: flags
            .iter()
            .map(|(key, value)| (row(key), (*value).into()))
            .collect(),
        host: host(),
    };
    let mut problems = Vec::new();
    let file = file::parse("s.toml", file, &mut problems);
    decide(file, &sources, problems)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn from_file(file: &str) -> Result<Loaded, Vec<String>> {
    decide_from(file, &[], &[])
}

#[test]
fn nothing_given_is_the_documented_defaults() {
    let loaded = decide_from("", &[], &[]).unwrap();
    let secs = Duration::from_secs;
    let expected = Config {
        host: "127.0.0.1".parse().unwrap(),
        port: 6001,
        path_prefix: String::new(),
        connections_max: 20_000 - 512,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        address_connects_max: None,
        address_connects_window: secs(60),
        shutdown_grace: secs(10),
        cores: vec![0, 1, 2, 3],
        shards: 4,
        driver: Driver::Auto,
        spin: Duration::ZERO,
        inbox_depth_max: 16_384,
        lag_bytes_max: 64 << 20,
        lag_max: Duration::from_millis(1_000),
        activity_timeout: secs(120),
        pong_timeout: secs(30),
        liveness_probe: LivenessProbe::Ping,
        strict_protocol: false,
        sockudo_clients: true,
        subscription_error: true,
        message_bytes_max: 64 << 10,
        subscriptions_max: None,
        subscriptions_shard_max: 4_000_000,
        delta_texts_max: 10,
        delta_shard_bytes_max: 256 << 20,
        outbox_bytes_max: 1 << 20,
        outbox_frames_max: 2_048,
        outbox_stall: secs(30),
        filters_channel_max: 10_000,
        filters_shard_bytes_max: 64 << 20,
        outbox_shard_bytes_max: 256 << 20,
        cache_ttl: secs(1_800),
        cache_shard_bytes_max: 256 << 20,
        head_bytes_max: 16 << 10,
        headers_max: 64,
        body_bytes_max: 10 << 20,
        request_shard_bytes_max: 128 << 20,
        head_timeout: secs(10),
        body_timeout: secs(30),
        keep_alive_timeout: secs(75),
        cors_origins: Vec::new(),
        query_response_bytes_max: 32 << 20,
        events_response: EventsResponse::Ok,
        webhook_inbox_max: 65_536,
        webhook_inbox_bytes_max: 64 << 20,
        webhook_refuse_private: false,
        metrics: true,
        metrics_host: "127.0.0.1".parse().unwrap(),
        metrics_port: 9601,
        metrics_prefix: "shardcast_".into(),
        metrics_apps_max: 100,
        reload_on_change: false,
        log_level: tracing::Level::INFO,
        log_format: LogFormat::Text,
    };
    assert_eq!(loaded.config, expected);
    assert!(loaded.notices.is_empty());
}

#[test]
fn the_defaults_of_an_app_are_those_of_the_app_module() {
    let loaded = from_file("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"").unwrap();
    assert_eq!(
        loaded.apps.by_id("a").unwrap().settings,
        AppSettings::default()
    );
    assert!(!loaded.development);
}

#[test]
fn without_apps_there_is_the_development_app_with_client_events() {
    let loaded = from_file("").unwrap();
    let (app, key) = loaded.apps.by_key("app-key").unwrap();
    assert_eq!((&*app.id, &*key.secret), ("app-id", "app-secret"));
    assert_eq!(
        app.settings,
        AppSettings {
            client_events: true,
            ..AppSettings::default()
        }
    );
    assert!(loaded.development);
    // Whoever says something about client events is heard.
    let loaded = from_file("client_events = false").unwrap();
    assert!(loaded.development && !loaded.apps.by_id("app-id").unwrap().settings.client_events);
}

#[test]
fn the_environment_may_name_the_single_app_and_then_it_is_not_for_development() {
    let env = [
        ("SHARDCAST_APP_ID", "7"),
        ("SHARDCAST_APP_KEY", "k"),
        ("SHARDCAST_APP_SECRET", "s"),
    ];
    let loaded = decide_from("", &env, &[]).unwrap();
    let (app, key) = loaded.apps.by_key("k").unwrap();
    assert_eq!(
        (&*app.id, &*key.secret, app.settings.client_events),
        ("7", "s", false)
    );
    assert!(!loaded.development);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let (file, env, flag) = ("port = 1", [("SHARDCAST_PORT", "2")], [("port", "3")]);
    let rows: [(&str, &[_], &[_], u16, &str); 4] = [
        ("", &[], &[], 6001, "default"),
        (file, &[], &[], 1, "s.toml:1"),
        (file, &env, &[], 2, "SHARDCAST_PORT"),
        (file, &env, &flag, 3, "--port"),
    ];
    for (file, env, flags, port, source) in rows {
        let loaded = decide_from(file, env, flags).unwrap();
        assert_eq!(loaded.config.port, port);
        assert_eq!(loaded.settings.setting("port").source.to_string(), source);
    }
}

#[test]
fn what_an_app_says_of_itself_wins_over_everything_in_either_direction() {
    let file = "client_events = true\npresence_members_max = 5\n\
        [[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\nclient_events = false\n\
        [[apps]]\nid = \"b\"\nkey = \"l\"\nsecret = \"s\"\npresence_members_max = 1000\n";
    let loaded = decide_from(file, &[], &[("client_events", "true")]).unwrap();
    let a = &loaded.apps.by_id("a").unwrap().settings;
    let b = &loaded.apps.by_id("b").unwrap().settings;
    assert_eq!((a.client_events, a.presence_members_max), (false, 5));
    assert_eq!((b.client_events, b.presence_members_max), (true, 1_000));
}

#[test]
fn an_app_has_several_keys() {
    let file = "[[apps]]\nid = 12\nkey = \"k0\"\nsecret = \"s0\"\n\
        keys = [{ key = \"k1\", secret = \"s1\" }, { key = \"k2\", secret = \"s2\" }]";
    let loaded = from_file(file).unwrap();
    for n in 0..3 {
        let (app, key) = loaded.apps.by_key(&format!("k{n}")).unwrap();
        assert_eq!((&*app.id, &*key.secret), ("12", &*format!("s{n}")));
    }
}

#[test]
fn every_option_takes_its_bounds_and_refuses_what_is_beyond_them() {
    // Those that must fit together are tried with the other at its end.
    let beside = |key: &str, max: bool| match (key, max) {
        ("outbox_bytes_max", true) => vec![("outbox_shard_bytes_max", "1024 GiB")],
        ("outbox_shard_bytes_max", false) => vec![("outbox_bytes_max", "1 KiB")],
        ("body_bytes_max", true) => vec![("request_shard_bytes_max", "1024 GiB")],
        ("request_shard_bytes_max", false) => vec![("body_bytes_max", "1 KiB")],
        _ => Vec::new(),
    };
    for row in table::all() {
        let Kind::Number { min, max, .. } = row.kind else {
            continue;
        };
        for (n, at_max) in [(min, false), (max, true)] {
            let text = n.to_string();
            let mut flags = beside(row.key, at_max);
            flags.push((row.key, &text));
            let decided = decide_from("", &[], &flags);
            if row.key == "connections_process_max" && at_max {
                let problem = &decided.unwrap_err()[0];
                assert!(
                    problem.ends_with("within the descriptor limit of 20000"),
                    "{problem}"
                );
                continue;
            }
            assert_eq!(
                *decided.unwrap().settings.value(row.key),
                Value::Number(n),
                "{}",
                row.key
            );
        }
        for n in [min.checked_sub(1), Some(max + 1)].into_iter().flatten() {
            let env = [(row.env(), n.to_string())];
            let env: Vec<_> = env.iter().map(|(k, v)| (&**k, &**v)).collect();
            let expected = format!(
                "{} = {n} ({}): must be {}",
                row.key,
                row.env(),
                row.kind.allowed()
            );
            assert_eq!(decide_from("", &env, &[]).unwrap_err(), [expected]);
        }
    }
}

#[test]
fn every_choice_is_taken_and_no_other_word() {
    for row in table::all() {
        let Kind::Choice(words) = row.kind else {
            continue;
        };
        for word in words {
            let loaded = from_file(&format!("{} = \"{word}\"", row.key)).unwrap();
            assert_eq!(*loaded.settings.value(row.key), Value::Text((*word).into()));
        }
        let expected = format!(
            "{} = \"Auto\" (s.toml:1): must be {}",
            row.key,
            words.join(" or ")
        );
        assert_eq!(
            from_file(&format!("{} = \"Auto\"", row.key)).unwrap_err(),
            [expected]
        );
    }
}

#[test]
fn every_problem_is_told_with_its_option_its_value_its_place_and_what_is_allowed() {
    let app = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";
    let rows: &[(&str, &[&str])] = &[
        (
            "prot = 1",
            &["prot (s.toml:1): unknown option; did you mean `port`?"],
        ),
        (
            "\nport = 65536",
            &["port = 65536 (s.toml:2): must be 0 to 65535"],
        ),
        ("port = -1", &["port = -1 (s.toml:1): must be 0 to 65535"]),
        (
            "port = \"x\"",
            &["port = \"x\" (s.toml:1): must be 0 to 65535"],
        ),
        (
            "host = \"localhost\"",
            &["host = \"localhost\" (s.toml:1): must be an IPv4 or IPv6 address"],
        ),
        (
            "tls_only = 1",
            &["tls_only = 1 (s.toml:1): must be true or false"],
        ),
        (
            "message_bytes_max = \"64 MB\"",
            &["message_bytes_max = \"64 MB\" (s.toml:1): must be 1 KiB to 16 MiB"],
        ),
        (
            "cores = \"0-4\"",
            &["cores = \"0-4\" (s.toml:1): must be among those the process may run on: 0-3"],
        ),
        (
            "proxy_protocol = true",
            &[
                "proxy_protocol = true (s.toml:1): needs `trusted_proxies`: any client could write \
               such a header",
            ],
        ),
        (
            "outbox_shard_bytes_max = \"512 KiB\"",
            &[
                "outbox_shard_bytes_max = \"512 KiB\" (s.toml:1): must be at least `outbox_bytes_max`",
            ],
        ),
        (
            "app_secret = \"\"",
            &["app_secret (s.toml:1): must be not empty"],
        ),
        ("apps = 1", &["apps (s.toml:1): must be tables: `[[apps]]`"]),
        (
            "[event_limits]\nmax_x = 1",
            &[
                "event_limits.max_x (s.toml:2): unknown option; `shardcast config` lists those there are",
            ],
        ),
        (
            "event_limits.max_payload_in_kb = 0",
            &[
                "event_limits.max_payload_in_kb = 0 (s.toml:1): must be 1 to 64 MiB / 1024 (it sets `event_data_bytes_max`)",
            ],
        ),
        (
            "channels_per_event_max = 1\nevent_limits.max_channels_at_once = 2",
            &[
                "event_limits.max_channels_at_once (s.toml:2): `channels_per_event_max` is given twice",
            ],
        ),
        (
            "[[apps]]\nid = \"a b\"",
            &[
                "apps.id = \"a b\" (s.toml:2): must be 1 to 200 letters, digits, `-`, `_`, `.` or `~`",
            ],
        ),
        (
            "[[apps]]\nkey = \"k\"\nsecret = \"s\"",
            &["apps.id (s.toml:1): missing"],
        ),
        (
            "[[apps]]\nid = \"a\"\nkey = \"k\"",
            &["apps.secret (s.toml:1): missing beside `key`"],
        ),
        (
            "[[apps]]\nid = \"a\"\nsecret = \"k\"",
            &["apps.key (s.toml:1): missing beside `secret`"],
        ),
        (
            "[[apps]]\nid = \"a\"",
            &["apps.keys (s.toml:1): missing: `key` and `secret`, or `keys`"],
        ),
        (
            "[[apps]]\nid = \"a\"\nkeys = [{ key = \"k\" }]",
            &["apps.keys (s.toml:3): must be a list such as `[{ key = \"k\", secret = \"s\" }]`"],
        ),
        // Options of the process are not an app's, and both problems are told.
        (
            "port = 70000\n[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\nport = 1",
            &[
                "port (s.toml:6): unknown option; `shardcast config` lists those there are",
                "port = 70000 (s.toml:1): must be 0 to 65535",
            ],
        ),
    ];
    for (file, expected) in rows {
        assert_eq!(from_file(file).unwrap_err(), *expected, "{file}");
    }
    let twice = format!("{app}{app}");
    assert_eq!(
        from_file(&twice).unwrap_err(),
        ["apps.id = a (s.toml:5): must be of one app only; also at s.toml:1"]
    );
    let keys = format!("{app}{}", app.replace("\"a\"", "\"b\""));
    assert_eq!(
        from_file(&keys).unwrap_err(),
        ["apps.key = k (s.toml:5): must be of one app only; also at s.toml:1"]
    );
    assert_eq!(
        decide_from(app, &[("SHARDCAST_APP_KEY", "x")], &[]).unwrap_err(),
        ["app_key (SHARDCAST_APP_KEY): the file has `[[apps]]`, so give it there"]
    );
}

const HOOK: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n[[apps.webhooks]]\n";

#[test]
fn an_app_has_webhook_endpoints_with_settings_of_their_own() {
    let file = format!(
        "webhook_timeout_ms = 1000\nwebhook_parallel_max = 2\n{HOOK}\
        url = \"https://a.example/hook?x=1\"\nevent_types = [\"member_added\", \"cache_miss\"]\n\
        channel_prefix = \"presence-\"\nparallel_max = 1\nheaders = {{ authorization = \"Bearer x\" }}\n\
        [[apps.webhooks]]\nurl = \"http://127.0.0.1:9\"\nevent_types = [\"client_event\"]\n"
    );
    let loaded = from_file(&file).unwrap();
    let webhooks = &loaded.apps.by_id("a").unwrap().webhooks;
    let [first, second] = webhooks.endpoints() else {
        panic!("{webhooks:?}");
    };
    assert_eq!(first.url.as_str(), "https://a.example/hook?x=1");
    assert!(first.wants(WebhookKind::CacheMiss, "presence-x"));
    assert!(!first.wants(WebhookKind::CacheMiss, "x"));
    assert!(!first.wants(WebhookKind::MemberRemoved, "presence-x"));
    assert_eq!(first.headers["Authorization"], "Bearer x");
    let parallel = |endpoint: &Endpoint| endpoint.settings.parallel_max;
    assert_eq!((parallel(first), parallel(second)), (1, 2));
    assert_eq!(first.settings.timeout, Duration::from_secs(1));
    assert!(webhooks.wants(WebhookKind::ClientEvent));
    assert!(!webhooks.wants(WebhookKind::ChannelOccupied));
    assert!(!format!("{webhooks:?}").contains("Bearer"));
}

#[test]
fn the_single_app_has_endpoints_by_their_urls() {
    let name = "SHARDCAST_APP_WEBHOOK_URLS";
    let env = [(name, "https://a.example/Hook, http://b:9")];
    let loaded = decide_from("webhook_parallel_max = 1", &env, &[]).unwrap();
    let webhooks = &loaded.apps.by_id("app-id").unwrap().webhooks;
    let urls = webhooks.endpoints().iter().map(|e| e.url.as_str());
    assert_eq!(
        urls.collect::<Vec<_>>(),
        ["https://a.example/Hook", "http://b:9/"]
    );
    for kind in WebhookKind::ALL {
        assert!(webhooks.endpoints()[0].wants(kind, "any"));
    }
    assert_eq!(webhooks.endpoints()[1].settings.parallel_max, 1);
    assert_eq!(
        decide_from("", &[(name, "a.example")], &[]).unwrap_err(),
        [
            "app_webhook_urls = a.example (SHARDCAST_APP_WEBHOOK_URLS): must be a list of URLs such as `https://a.example/hook`"
        ]
    );
}

#[test]
fn the_defaults_of_an_endpoint_are_those_of_the_app_module() {
    let file = format!("{HOOK}url = \"http://a\"\nevent_types = [\"cache_miss\"]");
    let loaded = from_file(&file).unwrap();
    let webhooks = &loaded.apps.by_id("a").unwrap().webhooks;
    assert_eq!(
        webhooks.endpoints()[0].settings,
        EndpointSettings::default()
    );
}

#[test]
fn every_problem_of_an_endpoint_is_told() {
    let kinds = "channel_occupied, channel_vacated, member_added, member_removed, client_event, \
        cache_miss, subscription_count";
    let (url, types) = ("url = \"http://a\"", "event_types = [\"cache_miss\"]");
    let wrong_url = "apps.webhooks.url (s.toml:6): must be an `http` or `https` URL with a host, \
        without user, password and fragment";
    let one = |line: &str| vec![line.to_owned()];
    let rows = [
        (types.into(), one("apps.webhooks.url (s.toml:5): missing")),
        (
            url.into(),
            vec![format!(
                "apps.webhooks.event_types (s.toml:5): missing: some of {kinds}"
            )],
        ),
        ("url = \"ftp://a\"".into(), one(wrong_url)),
        ("url = \"/hook\"".into(), one(wrong_url)),
        ("url = \"http://u:p@a\"".into(), one(wrong_url)),
        ("url = 1".into(), one(wrong_url)),
        (
            "event_types = []".into(),
            vec![format!(
                "apps.webhooks.event_types = [] (s.toml:6): must be a list of {kinds}"
            )],
        ),
        (
            "event_types = [\"cache_miss\", \"x\"]".into(),
            vec![format!(
                "apps.webhooks.event_types = [\"cache_miss\", \"x\"] (s.toml:6): must be a list of {kinds}"
            )],
        ),
        (
            "channel_prefix = \"a b\"".into(),
            one("apps.webhooks.channel_prefix = \"a b\" (s.toml:6): must be at most 1000 of the characters that channels are named with"),
        ),
        (
            "headers = 1".into(),
            one("apps.webhooks.headers (s.toml:6): must be a table such as `{ Authorization = \"Bearer x\" }`"),
        ),
        (
            "headers = { X-Pusher-Key = \"x\", \"a b\" = \"x\", ok = \"s\\n\" }".into(),
            vec![
                "apps.webhooks.headers.X-Pusher-Key (s.toml:6): must be none of the headers that are always sent".into(),
                "apps.webhooks.headers.a b (s.toml:6): must have the name of a header".into(),
                "apps.webhooks.headers.ok (s.toml:6): must be a text of visible ASCII characters".into(),
            ],
        ),
        (
            "headers = { a = \"1\", A = \"2\" }".into(),
            one("apps.webhooks.headers.a (s.toml:6): is given twice"),
        ),
        (
            "timeout_ms = 0".into(),
            one("timeout_ms = 0 (s.toml:6): must be 1 to 60000 ms (it sets `webhook_timeout_ms`)"),
        ),
        (
            "timeout = 0".into(),
            one("timeout (s.toml:6): unknown option; did you mean `timeout_ms`?"),
        ),
        (
            "webhook_timeout_ms = 1".into(),
            one("webhook_timeout_ms (s.toml:6): unknown option; `shardcast config` lists those there are"),
        ),
    ];
    for (lines, mut expected) in rows {
        let lines: String = lines;
        let mut problems = from_file(&format!("{HOOK}{lines}")).unwrap_err();
        problems.sort();
        expected.sort();
        assert_eq!(problems, expected, "{lines}");
    }
    assert_eq!(
        from_file("[[apps]]\nid = 1\nkey = \"k\"\nsecret = \"s\"\nwebhooks = 1").unwrap_err(),
        ["apps.webhooks (s.toml:5): must be tables: `[[apps.webhooks]]`"]
    );
    let many = format!("[[apps.webhooks]]\n{url}\n{types}\n").repeat(21);
    let app = HOOK.trim_end_matches("[[apps.webhooks]]\n");
    assert_eq!(
        from_file(&format!("{app}{many}")).unwrap_err(),
        ["apps.webhooks (s.toml:5): must be 20 at most"]
    );
}

#[test]
fn headers_of_an_endpoint_are_hidden() {
    let file = format!(
        "{HOOK}url = \"http://a\"\nevent_types = [\"cache_miss\"]\nheaders = {{ authorization = \"s3cret\" }}"
    );
    let loaded = from_file(&file).unwrap();
    assert!(!toml(&loaded, Secrets::Hidden).contains("s3cret"));
    assert!(toml(&loaded, Secrets::Shown).contains("s3cret"));
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let problems = from_file("port = 1\nhost =\n").unwrap_err();
    assert!(
        problems[0].starts_with("config (s.toml:2): "),
        "{problems:?}"
    );
}

#[test]
fn an_unreadable_file_is_a_problem_whoever_named_it() {
    let path = "/nonexistent/s.toml";
    let sources = |file: Option<PathBuf>, env: Vec<(OsString, OsString)>| Sources {
        file,
        env,
        flags: Vec::new(),
        host: host(),
    };
    let rows = [
        ("--config", sources(Some(path.into()), Vec::new())),
        (
            CONFIG_ENV,
            sources(None, vec![(CONFIG_ENV.into(), path.into())]),
        ),
    ];
    for (source, sources) in rows {
        let problems = load(&sources).unwrap_err();
        let start = format!("config = {path} ({source}): cannot be read: ");
        assert!(
            problems[0].to_string().starts_with(&start),
            "{}",
            problems[0]
        );
    }
}

#[test]
fn an_unknown_name_in_the_environment_is_a_problem_but_not_what_kubernetes_puts_there() {
    let env = [
        ("PATH", "x"),
        ("SHARDCAST_SERVICE_HOST", "10.0.0.1"),
        ("SHARDCAST_SERVICE_PORT_HTTP", "6001"),
        ("SHARDCAST_PORT", "tcp://10.0.0.1:6001"),
        ("SHARDCAST_PORT_6001_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(decide_from("", &env, &[]).unwrap().config.port, 6001);
    assert_eq!(
        decide_from("", &[("SHARDCAST_SHARD", "1")], &[]).unwrap_err(),
        ["shard (SHARDCAST_SHARD): unknown option; did you mean `shards`?"]
    );
}

#[test]
fn names_of_sockudo_are_accepted_where_it_has_them() {
    let file = "[event_limits]\nmax_payload_in_kb = 7\nmax_channels_at_once = 3\n\
        [[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n\
        [[apps]]\nid = \"b\"\nkey = \"l\"\nsecret = \"s\"\n\
        max_event_payload_in_kb = 9\nmax_event_channels_at_once = 4";
    let apps = from_file(file).unwrap().apps;
    let limits = |id| {
        let settings = &apps.by_id(id).unwrap().settings;
        (
            settings.event_data_bytes_max,
            settings.channels_per_event_max,
        )
    };
    assert_eq!((limits("a"), limits("b")), ((7 << 10, 3), (9 << 10, 4)));
    assert!(from_file("max_event_channels_at_once = 4").is_err());
}

#[test]
fn a_development_secret_in_the_file_is_noticed_and_turns_nothing_on() {
    let file = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"app-secret\"";
    let loaded = from_file(file).unwrap();
    assert!(loaded.development && !loaded.apps.by_id("a").unwrap().settings.client_events);
}

#[test]
fn more_shards_than_cores_are_allowed_with_a_notice() {
    let loaded = decide_from("", &[], &[("cores", "1"), ("shards", "2")]).unwrap();
    assert_eq!((loaded.config.cores, loaded.config.shards), (vec![1], 2));
    assert_eq!(loaded.notices.len(), 1);
    assert_eq!(
        decide_from("", &[], &[("cores", "1-2")])
            .unwrap()
            .config
            .shards,
        2
    );
}

#[test]
fn a_name_is_used_once_in_the_whole_table() {
    let mut names: Vec<&str> = table::all().map(|row| row.key).collect();
    names.extend(
        table::all()
            .flat_map(|row| row.aliases)
            .map(|alias| alias.key),
    );
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(!names.contains(&"config") && !names.contains(&"apps"));
}

#[test]
fn a_unit_is_part_of_the_name() {
    for row in table::all() {
        let part = match row.kind.unit() {
            Unit::Plain => continue,
            Unit::Bytes => "_bytes_max",
            Unit::Characters => "_chars_max",
            Unit::Seconds => "_secs",
            Unit::Milliseconds => "_ms",
            Unit::Microseconds => "_us",
        };
        let named = [part, &format!("{part}_max"), &part.replace("_max", "_min")]
            .iter()
            .any(|part| row.key.ends_with(part));
        assert!(named, "{}", row.key);
    }
}

#[test]
fn the_printed_configuration_is_read_back_as_the_same_one() {
    let files = [
        "",
        "host = \"::\"\nport = 0\npath_prefix = \"/ws\"\ncores = \"2,0-1\"\nmessage_bytes_max = 70000\n\
            cors_origins = [\"*\", \"https://a.example\"]\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
            app_secret = \"q\\\"\\\\\"",
        "client_events = true\n[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\ntls_only = true\n\
            allowed_origins = [\"*.a.example\"]\n[[apps]]\nid = \"b\"\n\
            keys = [{ key = \"l\", secret = \"s\" }, { key = \"m\", secret = \"t\" }]\n\
            [[apps.webhooks]]\nurl = \"https://a.example/b?c=d\"\nevent_types = [\"cache_miss\", \"client_event\"]\n\
            channel_suffix = \"-x\"\nheaders = { a = \"b\\\\c\" }\nparallel_max = 1\nqueue_bytes_max = \"1 MiB\"",
    ];
    let apps = |loaded: &Loaded| {
        let app = |a: &App| {
            let keys = a
                .keys
                .iter()
                .map(|k| (k.key.clone(), k.secret.clone()))
                .collect::<Vec<_>>();
            (
                a.index,
                a.id.clone(),
                keys,
                a.settings.clone(),
                a.webhooks.clone(),
            )
        };
        loaded.apps.iter().map(|a| app(a)).collect::<Vec<_>>()
    };
    for file in files {
        let loaded = decide_from(file, &[("SHARDCAST_SPIN_US", "7")], &[("shards", "3")]).unwrap();
        let again = from_file(&toml(&loaded, Secrets::Shown)).unwrap();
        assert_eq!(again.config, loaded.config);
        assert_eq!(apps(&again), apps(&loaded));
        assert_eq!(again.development, loaded.development);
    }
}

#[test]
fn the_printed_configuration_says_where_values_come_from_and_hides_secrets() {
    let file = "port = 1\n[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s3cret\"";
    let env = [("SHARDCAST_SPIN_US", "7")];
    let printed = toml(
        &decide_from(file, &env, &[("shards", "3")]).unwrap(),
        Secrets::Hidden,
    );
    for (start, source) in [
        ("port = 1 ", "# s.toml:1"),
        ("spin_us = 7 ", "# SHARDCAST_SPIN_US"),
        ("shards = 3 ", "# --shards"),
        ("host = \"127.0.0.1\" ", "# default"),
        (
            "cores = \"0-3\" ",
            "# default: those the process may run on",
        ),
        ("id = \"a\" ", "# s.toml:2"),
    ] {
        let line = printed
            .lines()
            .find(|line| line.starts_with(start))
            .expect(start);
        assert!(line.ends_with(source), "{line}");
    }
    assert!(!printed.contains("s3cret") && !printed.contains("app_secret"));
    let single = decide_from("", &[("SHARDCAST_APP_SECRET", "s3cret")], &[]).unwrap();
    assert!(!toml(&single, Secrets::Hidden).contains("s3cret"));
}

#[test]
fn the_markdown_has_a_line_for_every_option() {
    let markdown = markdown();
    for row in table::all() {
        let start = format!("| `{}` | ", row.key);
        let line = markdown
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap();
        assert_eq!(line.matches('|').count(), 5, "{line}");
    }
}

#[test]
fn the_readme_has_the_options_as_they_are_printed() {
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(markdown().trim_end()),
        "put the output of `shardcast config --markdown` into README.md"
    );
}

/// What is different between two files, in words.
fn changed(before: &str, after: &str) -> (Vec<&'static str>, String) {
    let (before, after) = (from_file(before).unwrap(), from_file(after).unwrap());
    let changes = Changes::between(&before, &after);
    let list = |name: &str, ids: &[String]| match ids {
        [] => String::new(),
        ids => format!("{name} {}; ", ids.join(" ")),
    };
    let settings = changes.changed.iter().map(ToString::to_string);
    let apps = list("added", &changes.added)
        + &list("removed", &changes.removed)
        + &list("changed", &settings.collect::<Vec<_>>());
    assert_eq!(changes.leaves_apps(), apps.is_empty());
    (changes.process, apps)
}

#[test]
fn what_a_reload_changes_is_named_by_app_and_option() {
    const A: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";
    const B: &str = "[[apps]]\nid = \"b\"\nkey = \"l\"\nsecret = \"s\"\n";
    let hook =
        "webhooks = [{ url = \"http://h.example/\", event_types = [\"channel_occupied\"] }]\n";
    let rows = [
        ([A, ""], [A, ""], &[][..], ""),
        // What an app has of its own is no change where it is the same as before.
        (
            ["client_events = true\n", A],
            [A, "client_events = true\n"],
            &[],
            "",
        ),
        ([A, ""], [A, B], &[], "added b; "),
        ([A, B], [B, ""], &[], "removed a; "),
        ([A, B], [B, A], &[], ""),
        (
            [A, ""],
            [A, "enabled = false\ntls_only = true\n"],
            &[],
            "changed a (enabled, tls_only); ",
        ),
        (
            ["", A],
            ["batch_events_max = 5\n", A],
            &[],
            "changed a (batch_events_max); ",
        ),
        (
            ["", A],
            ["port = 7000\nspin_us = 5\n", A],
            &["port", "spin_us"],
            "",
        ),
        ([A, ""], [A, hook], &[], "changed a (webhooks); "),
        (
            ["", ""],
            ["app_secret = \"other\"", ""],
            &[],
            "changed app-id (client_events, keys); ",
        ),
        (["", ""], [A, ""], &[], "added a; removed app-id; "),
    ];
    for (before, after, process, apps) in rows {
        let found = changed(&before.concat(), &after.concat());
        assert_eq!((found.0, &*found.1), (process.to_vec(), apps), "{after:?}");
    }
    let secret = A.replace("\"s\"", "\"t\"");
    assert_eq!(changed(A, &secret).1, "changed a (keys); ");
}
