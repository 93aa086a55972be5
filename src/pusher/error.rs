//! The 4xxx codes, why a connection is closed, and why a command is rejected.
//!
//! Tables of the wire: which code goes with which cause, in which text, and what a client does
//! about it. What is written around the texts is in `outbound`; who decides is elsewhere.
//!
//! Invariant: a [`CloseReason`] never has a code of 4300 or above (pusher-js would be disconnected
//! for good, WebSocket spec 5.2), and its text fits a Close frame.

use std::fmt;

use super::channel::NameError;
use super::filter;
use super::presence::MemberError;
use super::signature::Explanation;

/// A code of the protocol, in `pusher:error` frames and most of them in Close frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum Code {
    TlsOnly = 4000,
    UnknownApp = 4001,
    AppDisabled = 4003,
    OverQuota = 4004,
    BadPath = 4005,
    UnsupportedProtocol = 4007,
    MissingProtocol = 4008,
    Unauthorized = 4009,
    OverCapacity = 4100,
    Restart = 4200,
    PongTimeout = 4201,
    ClientEventRejected = 4301,
    WatchlistTooLong = 4302,
}

impl Code {
    pub fn value(self) -> u16 {
        self as u16
    }

    /// What a client does after a close with this code; the ranges are the rule.
    pub fn next_step(self) -> NextStep {
        match self.value() {
            4000 => NextStep::SwitchToTls,
            ..4100 => NextStep::GiveUp,
            4100..4200 => NextStep::ReconnectAfterBackOff,
            4200..4300 => NextStep::ReconnectAtOnce,
            4300.. => NextStep::FrameOnly,
        }
    }
}

/// The client's part of WebSocket spec 5.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextStep {
    SwitchToTls,
    /// Reconnecting with the same parameters is pointless.
    GiveUp,
    ReconnectAfterBackOff,
    ReconnectAtOnce,
    /// Never a close code.
    FrameOnly,
}

/// Why the server refuses or closes a connection, with the code and the text that it sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    TlsOnly,
    UnknownApp,
    /// To a client that is connected already this comes with the reload of apps.
    AppDisabled,
    OverQuota,
    BadPath,
    UnsupportedProtocol,
    MissingProtocol,
    OriginRefused,
    /// The switch "authorized connections" is on and its time is over (WebSocket spec 14.1).
    NotAuthorized,
    /// The user was terminated over the HTTP API (WebSocket spec 16).
    Terminated,
    OverCapacity,
    /// The client's address begins too many connections.
    TooOften,
    SlowConsumer,
    Restart,
    PongTimeout,
}

impl CloseReason {
    pub fn code(self) -> Code {
        match self {
            Self::TlsOnly => Code::TlsOnly,
            Self::UnknownApp => Code::UnknownApp,
            Self::AppDisabled => Code::AppDisabled,
            Self::OverQuota => Code::OverQuota,
            Self::BadPath => Code::BadPath,
            Self::UnsupportedProtocol => Code::UnsupportedProtocol,
            Self::MissingProtocol => Code::MissingProtocol,
            Self::OriginRefused | Self::NotAuthorized | Self::Terminated => Code::Unauthorized,
            Self::OverCapacity | Self::TooOften | Self::SlowConsumer => Code::OverCapacity,
            Self::Restart => Code::Restart,
            Self::PongTimeout => Code::PongTimeout,
        }
    }

    /// At most 123 bytes: a Close frame carries 125, two of which are the code.
    pub fn text(self) -> &'static str {
        match self {
            Self::TlsOnly => "Application only accepts TLS connections, reconnect using wss://",
            Self::UnknownApp => {
                "Could not find app by key, perhaps you're connecting to the \
                                 wrong server"
            }
            Self::AppDisabled => "Application disabled",
            Self::OverQuota => "Application is over connection quota",
            Self::BadPath => "Path not found, connect to /app/{key}",
            Self::UnsupportedProtocol => "Unsupported protocol version",
            Self::MissingProtocol => "No protocol version supplied",
            Self::OriginRefused => "Origin not allowed",
            Self::NotAuthorized => "Connection not authorized within timeout.",
            Self::Terminated => "You got disconnected by the app.",
            Self::OverCapacity => "Over capacity",
            Self::TooOften => "Too many connections from this address, try again later",
            Self::SlowConsumer => "Connection reads too slowly",
            Self::Restart => "Server is restarting, please reconnect",
            Self::PongTimeout => "Pong reply not received in time",
        }
    }
}

/// Why a command of a client was rejected. The connection stays open.
///
/// Its `Display` is the message of the `pusher:error` frame; the names are as the client sent them.
#[derive(Clone, Copy, Debug)]
pub enum Rejection<'a> {
    InvalidFormat,
    UnsupportedEvent {
        event: &'a str,
    },
    InvalidChannel(NameError),
    AlreadySubscribed {
        channel: &'a str,
    },
    NotSubscribed {
        channel: &'a str,
    },
    /// The `auth` of a subscription.
    SubscriptionAuth(Explanation<'a>),
    /// The user channel of somebody else, or of nobody: no one is signed in here.
    ForeignUserChannel {
        channel: &'a str,
    },
    /// A presence channel, neither `channel_data` nor a signed-in user.
    NobodyToPresent {
        channel: &'a str,
    },
    Member(MemberError),
    /// The tag filter of a subscription (extensions spec 2.2).
    Filter(filter::Error),
    ChannelFull {
        users_max: u32,
    },
    /// The shard holds as many subscriptions as it may.
    TooManySubscriptions,
    SignInDisabled,
    /// `auth` or `user_data` is missing or not a string.
    SignInFormat,
    SignInAuth(Explanation<'a>),
    /// `user_data` is not a JSON object with an `id` that satisfies WebSocket spec 14.
    SignInUser,
    /// Somebody else is signed in on this connection.
    SignInOtherUser,
    /// The shard holds as many subscriptions as it may, and a sign-in is kept like one.
    SignInNoRoom,
    WatchlistTooLong {
        users_max: u32,
    },
    ClientEvent(ClientEventError<'a>),
}

/// Why a client event was dropped (WebSocket spec 12.1 and 12.4).
#[derive(Clone, Copy, Debug)]
pub enum ClientEventError<'a> {
    Disabled,
    NameTooLong {
        chars_max: u32,
    },
    /// There is no string `channel`.
    NoChannel,
    /// The channel is not a private, encrypted or presence channel.
    ChannelKind,
    NotSubscribed {
        channel: &'a str,
    },
    TooLarge {
        bytes_max: u32,
    },
    TooMany {
        per_sec_max: u32,
    },
    /// The channel's home takes no publishes at the moment (decisions 28).
    Congested,
}

/// What `pusher:subscription_error` says about its cause (WebSocket spec 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscriptionError {
    pub kind: &'static str,
    pub status: u16,
}

impl Rejection<'_> {
    /// The code of the frame; `None` is `null`.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::InvalidFormat
            | Self::UnsupportedEvent { .. }
            | Self::InvalidChannel(_)
            | Self::AlreadySubscribed { .. }
            | Self::NotSubscribed { .. }
            | Self::Member(_)
            | Self::Filter(_) => None,
            Self::SubscriptionAuth(_)
            | Self::ForeignUserChannel { .. }
            | Self::NobodyToPresent { .. }
            | Self::SignInDisabled
            | Self::SignInFormat
            | Self::SignInAuth(_)
            | Self::SignInUser
            | Self::SignInOtherUser
            | Self::SignInNoRoom => Some(Code::Unauthorized),
            Self::ChannelFull { .. } | Self::TooManySubscriptions => Some(Code::OverCapacity),
            Self::WatchlistTooLong { .. } => Some(Code::WatchlistTooLong),
            Self::ClientEvent(_) => Some(Code::ClientEventRejected),
        }
    }

    /// What `pusher:subscription_error` adds, for rejected subscriptions other than duplicates.
    pub fn subscription_error(&self) -> Option<SubscriptionError> {
        let (kind, status) = match self {
            Self::InvalidChannel(_) => ("InvalidChannel", 400),
            Self::SubscriptionAuth(_)
            | Self::ForeignUserChannel { .. }
            | Self::NobodyToPresent { .. } => ("AuthError", 401),
            Self::Member(error) if error.is_limit() => ("LimitReached", 413),
            Self::Member(_) => ("InvalidData", 400),
            Self::Filter(_) => ("InvalidFilter", 400),
            Self::ChannelFull { .. } | Self::TooManySubscriptions => ("LimitReached", 4100),
            _ => return None,
        };
        Some(SubscriptionError { kind, status })
    }
}

impl fmt::Display for Rejection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidFormat => f.write_str("Invalid message format"),
            Self::UnsupportedEvent { event } => {
                write!(f, "Unsupported event received on socket: {event}")
            }
            Self::InvalidChannel(error) => write!(f, "Invalid channel name: it {error}"),
            Self::AlreadySubscribed { channel } => {
                write!(f, "Existing subscription to channel {channel}")
            }
            Self::NotSubscribed { channel } => write!(
                f,
                "No current subscription to channel {channel}, or subscription in progress"
            ),
            Self::SubscriptionAuth(explanation) | Self::SignInAuth(explanation) => {
                explanation.fmt(f)
            }
            Self::ForeignUserChannel { channel } => {
                write!(f, "Sign in as the user of {channel} to subscribe to it")
            }
            Self::NobodyToPresent { channel } => {
                write!(
                    f,
                    "channel_data or a signed-in user required to subscribe to {channel}"
                )
            }
            Self::Member(error) => write!(f, "Invalid member: {error}"),
            Self::Filter(error) => write!(f, "Invalid filter: {error}"),
            Self::ChannelFull { users_max } => {
                write!(
                    f,
                    "The maximum of {users_max} members of a presence channel is reached"
                )
            }
            Self::TooManySubscriptions => {
                f.write_str("The server cannot take more subscriptions at the moment")
            }
            Self::SignInDisabled => f.write_str("User authentication is not enabled for this app"),
            Self::SignInFormat => {
                f.write_str("Invalid signin: 'auth' and 'user_data' must be strings")
            }
            Self::SignInUser => f.write_str(
                "Invalid signin: user_data must be a JSON object with a string 'id' of 1 to 200 \
                 characters of A-Z a-z 0-9 _ - = @ , . ;",
            ),
            Self::SignInOtherUser => {
                f.write_str("Invalid signin: the connection is signed in as another user")
            }
            Self::SignInNoRoom => f.write_str("The server cannot take more sign-ins at the moment"),
            Self::WatchlistTooLong { users_max } => {
                write!(
                    f,
                    "The watchlist is too long, only its first {users_max} users are watched"
                )
            }
            Self::ClientEvent(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ClientEventError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str(
                "To send client events, you must enable this feature in the Settings page of \
                 your dashboard.",
            ),
            Self::NameTooLong { chars_max } => {
                write!(
                    f,
                    "Client event rejected - event name exceeds {chars_max} characters"
                )
            }
            Self::NoChannel => f.write_str("Client event rejected - channel must be a string"),
            Self::ChannelKind => f.write_str(
                "Client event rejected - only supported on private and presence channels",
            ),
            Self::NotSubscribed { channel } => write!(
                f,
                "Cannot broadcast client event (connection not subscribed to channel {channel})"
            ),
            Self::TooLarge { bytes_max } => {
                write!(f, "Client event rejected - data exceeds {bytes_max} bytes")
            }
            Self::TooMany { per_sec_max } => {
                write!(
                    f,
                    "Client event rejected - more than {per_sec_max} messages per second"
                )
            }
            Self::Congested => {
                f.write_str("Client event rejected - the server is overloaded, try again later")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: [CloseReason; 15] = [
        CloseReason::TlsOnly,
        CloseReason::UnknownApp,
        CloseReason::AppDisabled,
        CloseReason::OverQuota,
        CloseReason::BadPath,
        CloseReason::UnsupportedProtocol,
        CloseReason::MissingProtocol,
        CloseReason::OriginRefused,
        CloseReason::NotAuthorized,
        CloseReason::Terminated,
        CloseReason::OverCapacity,
        CloseReason::TooOften,
        CloseReason::SlowConsumer,
        CloseReason::Restart,
        CloseReason::PongTimeout,
    ];

    #[test]
    fn every_close_reason_fits_a_close_frame_and_may_be_sent_in_one() {
        for reason in REASONS {
            assert!((1..=123).contains(&reason.text().len()), "{reason:?}");
            assert_ne!(reason.code().next_step(), NextStep::FrameOnly, "{reason:?}");
            assert!(reason.code().value() < 4300, "{reason:?}");
        }
        assert_eq!(
            CloseReason::Terminated.text(),
            "You got disconnected by the app."
        );
    }

    #[test]
    fn the_range_of_a_code_says_what_the_client_does() {
        for (code, value, next_step) in [
            (Code::TlsOnly, 4000, NextStep::SwitchToTls),
            (Code::UnknownApp, 4001, NextStep::GiveUp),
            (Code::AppDisabled, 4003, NextStep::GiveUp),
            (Code::OverQuota, 4004, NextStep::GiveUp),
            (Code::BadPath, 4005, NextStep::GiveUp),
            (Code::UnsupportedProtocol, 4007, NextStep::GiveUp),
            (Code::MissingProtocol, 4008, NextStep::GiveUp),
            (Code::Unauthorized, 4009, NextStep::GiveUp),
            (Code::OverCapacity, 4100, NextStep::ReconnectAfterBackOff),
            (Code::Restart, 4200, NextStep::ReconnectAtOnce),
            (Code::PongTimeout, 4201, NextStep::ReconnectAtOnce),
            (Code::ClientEventRejected, 4301, NextStep::FrameOnly),
            (Code::WatchlistTooLong, 4302, NextStep::FrameOnly),
        ] {
            assert_eq!((code.value(), code.next_step()), (value, next_step));
        }
    }

    #[test]
    fn rejections_have_the_codes_and_texts_of_the_spec() {
        let invalid = Some(("InvalidChannel", 400));
        let auth = Some(("AuthError", 401));
        for (rejection, code, subscription_error, text) in [
            (
                Rejection::InvalidFormat,
                None,
                None,
                "Invalid message format",
            ),
            (
                Rejection::UnsupportedEvent {
                    event: "pusher:foo",
                },
                None,
                None,
                "Unsupported event received on socket: pusher:foo",
            ),
            (
                Rejection::InvalidChannel(NameError::TooLong { chars_max: 200 }),
                None,
                invalid,
                "Invalid channel name: it must not exceed 200 characters",
            ),
            (
                Rejection::AlreadySubscribed { channel: "news" },
                None,
                None,
                "Existing subscription to channel news",
            ),
            (
                Rejection::NotSubscribed { channel: "news" },
                None,
                None,
                "No current subscription to channel news, or subscription in progress",
            ),
            (
                Rejection::ForeignUserChannel {
                    channel: "#server-to-user-u1",
                },
                Some(4009),
                auth,
                "Sign in as the user of #server-to-user-u1 to subscribe to it",
            ),
            (
                Rejection::NobodyToPresent {
                    channel: "presence-a",
                },
                Some(4009),
                auth,
                "channel_data or a signed-in user required to subscribe to presence-a",
            ),
            (
                Rejection::Member(MemberError::UserId),
                None,
                Some(("InvalidData", 400)),
                "Invalid member: channel_data must have a user_id, a non-empty string or a number",
            ),
            (
                Rejection::Member(MemberError::UserInfoTooLarge { bytes_max: 2048 }),
                None,
                Some(("LimitReached", 413)),
                "Invalid member: user_info must not exceed 2048 bytes",
            ),
            (
                Rejection::Filter(filter::Error::TooDeep),
                None,
                Some(("InvalidFilter", 400)),
                "Invalid filter: it must not have more than 16 levels of nodes",
            ),
            (
                Rejection::ChannelFull { users_max: 100 },
                Some(4100),
                Some(("LimitReached", 4100)),
                "The maximum of 100 members of a presence channel is reached",
            ),
            (
                Rejection::TooManySubscriptions,
                Some(4100),
                Some(("LimitReached", 4100)),
                "The server cannot take more subscriptions at the moment",
            ),
            (
                Rejection::SignInOtherUser,
                Some(4009),
                None,
                "Invalid signin: the connection is signed in as another user",
            ),
            (
                Rejection::WatchlistTooLong { users_max: 100 },
                Some(4302),
                None,
                "The watchlist is too long, only its first 100 users are watched",
            ),
            (
                Rejection::ClientEvent(ClientEventError::ChannelKind),
                Some(4301),
                None,
                "Client event rejected - only supported on private and presence channels",
            ),
            (
                Rejection::ClientEvent(ClientEventError::NotSubscribed {
                    channel: "private-a",
                }),
                Some(4301),
                None,
                "Cannot broadcast client event (connection not subscribed to channel private-a)",
            ),
        ] {
            assert_eq!(rejection.to_string(), text);
            assert_eq!(rejection.code().map(Code::value), code, "{text}");
            let found = rejection
                .subscription_error()
                .map(|error| (error.kind, error.status));
            assert_eq!(found, subscription_error, "{text}");
        }
    }
}
