//! What a connection of a load subscribes to: one channel of many, of a kind.

use crate::args::Kind;
use crate::control::{Plan, Share};
use crate::message;
use crate::sign::Signer;

/// Channels of one name and kind, told apart by a number.
pub(super) struct Channels {
    prefix: String,
    kind: Kind,
    count: u64,
    share: Share,
    signer: Signer,
}

impl Channels {
    pub(super) fn new(name: &str, kind: Kind, count: u32, plan: &Plan) -> Self {
        let prefix = match kind {
            Kind::Public => "",
            Kind::Private => "private-",
            Kind::Presence => "presence-",
        };
        Self {
            prefix: format!("{prefix}loadtest-{name}"),
            kind,
            count: count.into(),
            share: plan.share,
            signer: Signer::new(&plan.targets[0]),
        }
    }

    /// The channel of this worker's `nth` connection, `moved` channels further.
    pub(super) fn name(&self, nth: usize, moved: u64) -> String {
        let number = (self.share.global(nth) + moved) % self.count;
        format!("{}-{number}", self.prefix)
    }

    /// Appends the subscription of this worker's `nth` connection.
    pub(super) fn subscribe(&self, socket_id: &str, nth: usize, moved: u64, out: &mut Vec<u8>) {
        let channel = self.name(nth, moved);
        let member = match self.kind {
            Kind::Presence => Some(format!(r#"{{"user_id":"{}"}}"#, self.share.global(nth))),
            Kind::Public | Kind::Private => None,
        };
        let auth = match self.kind {
            Kind::Public => None,
            _ => Some(
                self.signer
                    .subscription(socket_id, &channel, member.as_deref()),
            ),
        };
        message::subscribe(&channel, auth.as_deref(), member.as_deref(), out);
    }
}
