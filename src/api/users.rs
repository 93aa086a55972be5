//! `terminate_connections`: the end of all connections of a user (HTTP spec 9).
//!
//! The body is nobody's: node and php send `{}`, others nothing. Whether the user has connections
//! is not asked, since the answer does not tell.

use crate::app::App;
use crate::http::Status;
use crate::pusher::channel::{USER_ID_CHARS_MAX, UserId};

use super::request::{Context, OnBody};
use super::waiting::RETRY_SECS;
use super::{Body, Response};

/// A body whose digest is right. To be called between `Shard::begin_serving` and `end_serving`.
pub(super) fn terminate(context: &mut Context<'_>, app: &App, user_id: &str) -> OnBody {
    OnBody::Respond(match try_terminate(context, app, user_id) {
        Ok(()) => Response::new(Status::Ok, Body::JsonFixed("{}")),
        Err(response) => response,
    })
}

fn try_terminate(context: &mut Context<'_>, app: &App, user_id: &str) -> Result<(), Response> {
    let chars = user_id.chars().count();
    if chars == 0 || chars > USER_ID_CHARS_MAX {
        let text = format!("Invalid user id: must have 1 to {USER_ID_CHARS_MAX} characters.");
        return Err(Response::error(Status::BadRequest, "invalid_input", text));
    }
    // Nobody can be signed in under an id with other characters.
    let Ok(user) = UserId::parse(user_id) else {
        return Ok(());
    };
    context
        .shard
        .on_terminate(app.index, user)
        .map_err(|_| Response::unavailable("The server is overloaded, try again.", RETRY_SECS))
}

#[cfg(test)]
mod tests {
    use crate::api::testing::{Server, body, signed};
    use crate::shard::message::ShardMessage;

    fn path(user_id: &str) -> String {
        format!("/apps/3/users/{user_id}/terminate_connections")
    }

    /// The channels of the users that have been terminated since the last call.
    fn terminated(server: &mut Server) -> Vec<String> {
        let messages = server.shard.outgoing(0).list.drain(..);
        messages
            .map(|message| match message {
                ShardMessage::Terminate { user } => user.name.to_string(),
                other => panic!("not a terminate: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_user_is_terminated_on_either_path_with_any_body() {
        let mut server = Server::new();
        for (path, name) in [
            (path("u1"), "#server-to-user-u1"),
            (path("u%40b"), "#server-to-user-u@b"),
            (
                path(&"u".repeat(200)),
                &format!("#server-to-user-{}", "u".repeat(200)),
            ),
            (
                "/users/u1/terminate_connections".into(),
                "#server-to-user-u1",
            ),
        ] {
            for text in ["", "{}", r#"{"reason":"x"}"#, "no JSON"] {
                let response = server.post(&path, text);
                assert_eq!(
                    (response.status.code(), body(&response).as_str()),
                    (200, "{}")
                );
                assert_eq!(terminated(&mut server), [name], "{path}");
            }
        }
    }

    #[test]
    fn an_id_that_nobody_can_have_is_a_success_and_one_of_no_length_is_not() {
        let mut server = Server::new();
        for (user_id, status) in [
            ("a%20b", 200),
            ("%C3%A9", 200),
            ("a%23b", 200),
            (&*"%C3%A9".repeat(200), 200),
            (&*"%C3%A9".repeat(201), 400),
            (&*"u".repeat(201), 400),
            ("", 400),
        ] {
            let response = server.post(&path(user_id), "{}");
            assert_eq!(response.status.code(), status, "{user_id}");
            assert!(terminated(&mut server).is_empty());
        }
    }

    #[test]
    fn a_home_without_room_is_an_answer_and_nothing_is_queued() {
        let mut server = Server::new();
        server.congest(true);
        let response = server.post(&path("u1"), "{}");
        assert_eq!(response.status.code(), 503);
        assert_eq!(response.retry_after_secs, Some(1));
        assert!(terminated(&mut server).is_empty());
    }

    #[test]
    fn the_path_without_an_app_is_signed_by_a_key_of_some_app() {
        let mut server = Server::new();
        let path = "/users/u1/terminate_connections";
        let signed = signed("POST", path, "", "", "{}");
        let change = |from: &str, to: &str| {
            let text = String::from_utf8(signed.clone()).expect("text");
            assert!(text.contains(from));
            text.replace(from, to).into_bytes()
        };
        for (wire, status) in [
            (
                change("auth_key=278d425bdf160c739803", "auth_key=unknown"),
                401,
            ),
            (change("auth_key=278d425bdf160c739803&", ""), 401),
            (
                change("auth_key=278d425bdf160c739803", "auth_key=off-key"),
                401,
            ),
            (change("/users/u1/", "/users/u2/"), 401),
            (signed.clone(), 200),
        ] {
            assert_eq!(server.answer(&wire).status.code(), status);
        }
        assert_eq!(terminated(&mut server), ["#server-to-user-u1"]);
    }
}
