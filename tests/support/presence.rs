//! Members of presence channels: who joins, and what the others are told.

use serde_json::{Value, json};

use super::{Client, Server};

/// Of a joined member, to the others.
pub const ADDED: &str = "pusher_internal:member_added";
/// Of a member that has gone, to those that stay.
pub const REMOVED: &str = "pusher_internal:member_removed";

/// The `channel_data` of a user who is called as the id.
pub fn user(id: &str) -> Value {
    json!({"user_id": id, "user_info": {"name": id}})
}

/// A client that is this member of a channel.
pub fn joined(server: &Server, channel: &str, id: &str) -> Client {
    let mut client = Client::connect(server);
    client.subscribe_presence(channel, &user(id));
    client
}

/// The next event says that this user has come.
pub fn expect_added(client: &mut Client, channel: &str, id: &str) {
    let event = client.expect(ADDED);
    assert_eq!(event.channel.as_deref(), Some(channel));
    assert_eq!(event.json(), user(id));
}

/// The next event says that this user has gone.
pub fn expect_removed(client: &mut Client, channel: &str, id: &str) {
    let event = client.expect(REMOVED);
    assert_eq!(event.channel.as_deref(), Some(channel));
    assert_eq!(event.json(), json!({"user_id": id}));
}
