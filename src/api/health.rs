//! The unsigned GETs by which load balancers and people ask how it goes (HTTP spec 10).
//!
//! Plain text, because probes read the status and people read the word. Values in, value out:
//! whether the server drains or an app exists is for the caller to know.

use crate::http::Status;

use super::{Body, Response};

/// What an app says about itself to `/up/{app_id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppState {
    Enabled,
    Disabled,
    Unknown,
}

/// `GET /`: somebody is here.
pub fn root() -> Response {
    text(Status::Ok, "OK")
}

/// `GET /up`: 503 while draining, so that no new client is sent here.
pub fn up(draining: bool) -> Response {
    if draining {
        text(Status::Unavailable, "DRAINING")
    } else {
        text(Status::Ok, "OK")
    }
}

/// `GET /up/{app_id}`.
pub fn up_app(draining: bool, app: AppState) -> Response {
    match app {
        AppState::Unknown => text(Status::NotFound, "UNKNOWN APP"),
        AppState::Disabled => text(Status::Unavailable, "DISABLED"),
        AppState::Enabled => up(draining),
    }
}

/// `GET /live`: the process is alive, draining or not. `stalled`: a shard has neither parked nor
/// turned for 30 s (decisions 36).
pub fn live(stalled: bool) -> Response {
    if stalled {
        text(Status::Unavailable, "ERROR")
    } else {
        text(Status::Ok, "OK")
    }
}

/// `GET /ready`: whether new connections are welcome.
pub fn ready(draining: bool) -> Response {
    up(draining)
}

fn text(status: Status, text: &'static str) -> Response {
    Response::new(status, Body::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_has_its_status_and_its_word() {
        let table = [
            (root(), 200, "OK"),
            (up(false), 200, "OK"),
            (up(true), 503, "DRAINING"),
            (ready(false), 200, "OK"),
            (ready(true), 503, "DRAINING"),
            (live(false), 200, "OK"),
            (live(true), 503, "ERROR"),
            (up_app(false, AppState::Enabled), 200, "OK"),
            (up_app(true, AppState::Enabled), 503, "DRAINING"),
            (up_app(true, AppState::Unknown), 404, "UNKNOWN APP"),
            (up_app(true, AppState::Disabled), 503, "DISABLED"),
        ];
        for (response, status, word) in table {
            assert_eq!(
                (response.status.code(), response.body),
                (status, Body::Text(word))
            );
        }
    }
}
