//! What a target has, found out by asking before the load: a feature that it lacks is said, and no
//! failure. Only what every server of the protocol has is asked for in earnest: a greeting, and a
//! public channel.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::message::readable;
use crate::sign::Signer;
use crate::target::Target;

/// A server that takes longer does not have it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A server that was started a moment ago may not listen yet.
const PATIENCE: Duration = Duration::from_secs(3);
/// For what a server without the feature simply ignores.
const SILENCE: Duration = Duration::from_millis(700);

/// A target, looked at.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    /// A connection stays open behind an answer.
    pub(crate) keeps_alive: bool,
    /// `pusher:ping` is answered.
    pub(crate) answers_ping: bool,
    /// `GET /up` is answered with 200.
    pub(crate) has_up: bool,
    pub(crate) publish: Result<(), String>,
    pub(crate) private: Result<(), String>,
    pub(crate) presence: Result<(), String>,
    pub(crate) client_events: Result<(), String>,
}

impl Features {
    /// Looks at a target.
    ///
    /// # Errors
    /// It does not greet, or takes no subscription to a public channel.
    pub(crate) fn of(target: &Target) -> io::Result<Self> {
        let signer = Signer::new(target);
        let greeted = greeted(target).and_then(|mut client| {
            client.subscribe("loadtest-look", None, None)?;
            Ok(client)
        });
        let mut client = greeted.map_err(|error| {
            io::Error::other(format!("{} cannot be loaded: {error}", target.address))
        })?;
        let (publish, keeps_alive) = publish(target, &signer, &mut client);
        let ping = client
            .send_text(br#"{"event":"pusher:ping","data":{}}"#)
            .and_then(|()| client.await_text(b"pusher:pong"));
        let private = subscribe(target, &signer, "private-loadtest-look", None).map(drop);
        let presence = subscribe(target, &signer, PRESENCE, Some("1"));
        let client_events = match &presence {
            Ok(_) => client_events(target, &signer),
            Err(_) => Err("they need presence channels here".to_owned()),
        };
        Ok(Self {
            keeps_alive,
            answers_ping: ping.is_ok(),
            has_up: has_up(target),
            publish,
            private,
            presence: presence.map(drop),
            client_events,
        })
    }

    /// What is missing, a sentence each.
    pub(crate) fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        for (what, found) in [
            ("publishes by HTTP", &self.publish),
            ("private channels", &self.private),
            ("presence channels", &self.presence),
            ("client events", &self.client_events),
        ] {
            if let Err(reason) = found {
                lacks.push(format!("{what}: {reason}"));
            }
        }
        for (what, is_there) in [
            (
                "keep-alive: it ends a connection behind each answer",
                self.keeps_alive,
            ),
            ("an answer to pusher:ping", self.answers_ping),
            ("GET /up", self.has_up),
        ] {
            if !is_there {
                lacks.push(what.to_owned());
            }
        }
        lacks
    }
}

/// The first connection to a target.
fn greeted(target: &Target) -> io::Result<Client> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Client::websocket(target, TIMEOUT) {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < until =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

const PRESENCE: &str = "presence-loadtest-look";

/// Whether a publish comes to a subscriber, and whether the connection could be used again.
fn publish(target: &Target, signer: &Signer, client: &mut Client) -> (Result<(), String>, bool) {
    let mut keeps_alive = false;
    let mut one = || {
        let request = signer.publish("loadtest-look", "hello");
        let mut http = Client::http(target, TIMEOUT)?;
        http.send(&request)?;
        let (status, body, closes) = http.await_answer()?;
        if status != 200 && status != 202 {
            let body = readable(&body);
            return Err(io::Error::other(format!("answered {status} {body}")));
        }
        keeps_alive = !closes && http.send(&request).is_ok() && http.await_answer().is_ok();
        client.await_text(b"hello").map(drop)
    };
    let done = one().map_err(|error: io::Error| error.to_string());
    (done, keeps_alive)
}

fn subscribe(
    target: &Target,
    signer: &Signer,
    channel: &str,
    user: Option<&str>,
) -> Result<Client, String> {
    let subscribe = || {
        let mut client = Client::websocket(target, TIMEOUT)?;
        let data = user.map(|user| format!(r#"{{"user_id":"{user}"}}"#));
        let auth = signer.subscription(&client.socket_id, channel, data.as_deref());
        client.subscribe(channel, Some(&auth), data.as_deref())?;
        Ok(client)
    };
    subscribe().map_err(|error: io::Error| error.to_string())
}

fn client_events(target: &Target, signer: &Signer) -> Result<(), String> {
    let mut sender = subscribe(target, signer, PRESENCE, Some("2"))?;
    let mut receiver = subscribe(target, signer, PRESENCE, Some("3"))?;
    let event = format!(r#"{{"event":"client-load","channel":"{PRESENCE}","data":"hello"}}"#);
    let sent = sender.send_text(event.as_bytes());
    let passed = sent.and_then(|()| receiver.await_text_within(b"client-load", SILENCE));
    passed.map_err(
        |error| match sender.await_text_within(b"client-load", SILENCE) {
            Err(refused) if refused.kind() == io::ErrorKind::Other => refused.to_string(),
            _ => format!("none came: {error}"),
        },
    )
}

fn has_up(target: &Target) -> bool {
    let ask = || -> io::Result<u16> {
        let mut http = Client::http(target, TIMEOUT)?;
        let (prefix, host) = (&target.path_prefix, &target.host);
        http.send(format!("GET {prefix}/up HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        Ok(http.await_answer()?.0)
    };
    ask().is_ok_and(|status| status == 200)
}
