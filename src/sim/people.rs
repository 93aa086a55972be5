//! What people do as users: they sign in, rightly or not, again, as somebody else, before and after
//! they subscribe; they subscribe to their channels; back ends terminate them.

use std::rc::Rc;

use crate::pusher::signature::SigningKey;

use super::client::Action;
use super::model::Model;
use super::peer::{Input, Kind};
use super::plan::{APPS, USER_NAMES};
use super::sieve::Tags;
use super::text;
use super::user::{SignIn, TERMINATION};
use super::world::World;

impl World {
    /// A client signs in as one of the scene's users, most often as the one that it has chosen.
    pub(super) fn sign_in(&mut self, at: usize) -> Input {
        let nth = self.chance.below(self.scene.users);
        let is_lying = self.chance.below(20) == 0;
        let watched: Vec<usize> = (0..self.chance.below(5))
            .map(|_| self.chance.below(USER_NAMES.len()))
            .collect();
        let info = self.chance.below(3);
        let changes_mind = self.chance.below(10) == 0;
        let Some(client) = self.peers[at].client() else {
            return Input::Pong;
        };
        let nth = match client.chosen {
            Some(chosen) if !changes_mind => chosen,
            _ => *client.chosen.insert(nth),
        };
        let (_, key, secret) = APPS[client.app];
        let channel = |nth: usize, model: &Model| model.channel(client.app, USER_NAMES[nth]);
        let id = |nth: usize| &USER_NAMES[nth]["#server-to-user-".len()..];
        let ids: Vec<String> = watched.iter().map(|&n| format!(r#""{}""#, id(n))).collect();
        let data = format!(
            r#"{{"id":"{}","user_info":{{"n":{info}}},"watchlist":[{}]}}"#,
            id(nth),
            ids.join(",")
        );
        let signed = client.socket_id.map_or(String::new(), |id| id.to_string());
        let signed = format!("{signed}::user::{data}");
        let guessed = if is_lying { "guessed" } else { secret };
        let signature = SigningKey::new(guessed.as_bytes()).sign_hex(&[signed.as_bytes()]);
        let signature = String::from_utf8_lossy(&signature);
        let quoted = data.replace('"', r#"\""#);
        let text = format!(
            r#"{{"event":"pusher:signin","data":{{"auth":"{key}:{signature}","user_data":"{quoted}"}}}}"#
        );
        let mut list: Vec<usize> = Vec::new();
        for watched in watched.iter().map(|&nth| channel(nth, &self.model)) {
            if !list.contains(&watched) {
                list.push(watched);
            }
        }
        let users_max = client.rules.watchlist_users_max.unwrap_or(usize::MAX);
        let is_cut = list.len() > users_max;
        list.truncate(users_max);
        let sign_in = SignIn {
            channel: channel(nth, &self.model),
            valid: !is_lying && client.socket_id.is_some(),
            list,
            is_cut,
            success: text::signed_in(&data),
        };
        Input::Text(Action::SignIn(Rc::new(sign_in)), text)
    }

    /// A subscribe to the channel of a user, which may be the own one, or an unsubscribe.
    pub(super) fn subscribe_user(&mut self, at: usize, channel: usize, on: bool) -> Input {
        let name = self.model.channels[channel].name;
        let Some(client) = self.peers[at].client() else {
            return Input::Pong;
        };
        let channel = self.model.channel(client.app, name);
        let (event, action) = match on {
            true => ("subscribe", Action::SubscribeUser { channel }),
            false => ("unsubscribe", Action::UnsubscribeUser { channel }),
        };
        let text =
            format!(r#"{{"event":"pusher:{event}","data":{{"auth":"","channel":"{name}"}}}}"#);
        Input::Text(action, text)
    }

    /// A subscribe to a presence channel without `channel_data`.
    pub(super) fn subscribe_signed_in(&mut self, at: usize, channel: usize) -> Input {
        let name = self.model.channels[channel].name;
        let Some(client) = self.peers[at].client() else {
            return Input::Pong;
        };
        let (_, key, secret) = APPS[client.app];
        let valid = client.socket_id.is_some();
        let signed = client.socket_id.map_or(String::new(), |id| id.to_string());
        let signed = format!("{signed}:{name}");
        let signature = SigningKey::new(secret.as_bytes()).sign_hex(&[signed.as_bytes()]);
        let signature = String::from_utf8_lossy(&signature);
        let text = format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"{name}","auth":"{key}:{signature}"}}}}"#
        );
        let channel = self.model.channel(client.app, name);
        client.wants.push(channel);
        Input::Text(Action::SubscribeSignedIn { channel, valid }, text)
    }

    /// A back end ends all connections of a user.
    pub(super) fn some_termination(&mut self, at: usize) {
        let is_user = |&at: &usize| self.model.channels[at].is_user();
        let users: Vec<usize> = self
            .scene
            .channels
            .iter()
            .copied()
            .filter(is_user)
            .collect();
        if users.is_empty() {
            return;
        }
        let channel = users[self.chance.below(users.len())];
        let number = self.model.new_event(TERMINATION, Tags::default(), 1, 0);
        if let Kind::Publisher(publisher) = &mut self.peers[at].kind {
            publisher.requests.push_back(number);
        }
        self.peers[at]
            .to_server
            .push_back(Input::Terminate { number, channel });
    }
}
