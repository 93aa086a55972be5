//! HMAC-SHA256 under an app's secret, and the `auth` of subscriptions and sign-ins.
//!
//! Which keys an app has is the caller's business: it is asked by a closure. Requests of the HTTP
//! API are signed differently, see `rest_signature`. What was signed may be shown to whoever sent
//! it; the secret never leaves [`SigningKey`].
//!
//! Invariant: signatures are 64 lower-case hex digits, so one in upper case or with anything around
//! it is wrong; whatever is one is compared in constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::channel::{ChannelKind, ChannelName};
use super::hex;
use super::socket_id::SocketId;

/// Length of a signature in its printed form.
pub const SIGNATURE_HEX_BYTES: usize = 2 * DIGEST_BYTES;

const DIGEST_BYTES: usize = 32;

/// A secret, as the state of an HMAC that has taken it in: two of the blocks of each signature are
/// hashed once per key instead of once per message.
#[derive(Clone)]
pub struct SigningKey {
    keyed: Hmac<Sha256>,
}

impl SigningKey {
    /// `secret` may have any length.
    pub fn new(secret: &[u8]) -> Self {
        let keyed = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self { keyed }
    }

    /// Signs the concatenation of `parts`.
    pub fn sign_hex(&self, parts: &[&[u8]]) -> [u8; SIGNATURE_HEX_BYTES] {
        hex::encode(self.sign(parts))
    }

    /// Whether `signature` is that of the concatenation of `parts`.
    pub fn verify_hex(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        let Some(given) = hex::decode(signature) else {
            return false;
        };
        words(self.sign(parts)).ct_eq(&words(given)).into()
    }

    fn sign(&self, parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// A digest as what can be compared in four steps.
fn words(digest: [u8; DIGEST_BYTES]) -> [u64; DIGEST_BYTES / 8] {
    let mut words = [0; DIGEST_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

/// What a client says it may do, with the signature that should prove it.
#[derive(Clone, Copy, Debug)]
pub struct ClientAuth<'a> {
    pub socket_id: SocketId,
    pub claim: Claim<'a>,
    /// `KEY:SIGNATURE`; absent and empty are the same.
    pub auth: Option<&'a str>,
}

/// The texts are those of the client's frame after JSON unescaping, never serialised anew.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    Subscribe {
        channel: ChannelName<'a>,
        channel_data: Option<&'a str>,
    },
    SignIn {
        user_data: &'a str,
    },
}

/// Why an `auth` was refused; [`ClientAuth::explain`] gives the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthError {
    Missing,
    UnknownKey,
    Mismatch,
}

impl<'a> ClientAuth<'a> {
    /// Checks the signature under the key that it names, which must be an active one of the app:
    /// `key_of` knows. A presence channel without `channel_data` passes with the two-part string;
    /// the caller sees to it that somebody is signed in (WebSocket spec 7.2).
    pub fn verify<'k>(
        &self,
        key_of: impl FnOnce(&str) -> Option<&'k SigningKey>,
    ) -> Result<(), AuthError> {
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else {
            return Err(AuthError::Missing);
        };
        let (key, signature) = split_auth(auth);
        let key = key_of(key).ok_or(AuthError::UnknownKey)?;
        let id = self.socket_id.text();
        let is_signed =
            |tail: SignedTail<'_>| key.verify_hex(&tail.parts(id.as_bytes()), signature.as_bytes());
        match self.claim {
            _ if is_signed(self.signed_tail()) => Ok(()),
            // Nothing uses the data of such a channel, so a signature without it does as well.
            Claim::Subscribe {
                channel,
                channel_data: Some(_),
            } if channel.kind() != ChannelKind::Presence
                && is_signed(SignedTail([":", channel.as_str(), "", ""])) =>
            {
                Ok(())
            }
            _ => Err(AuthError::Mismatch),
        }
    }

    /// The text of an error, as Pusher words it (WebSocket spec 7.1).
    pub fn explain(self, error: AuthError) -> Explanation<'a> {
        Explanation { auth: self, error }
    }

    fn signed_tail(&self) -> SignedTail<'a> {
        SignedTail(match self.claim {
            Claim::Subscribe {
                channel,
                channel_data: None,
            } => [":", channel.as_str(), "", ""],
            Claim::Subscribe {
                channel,
                channel_data: Some(data),
            } => [":", channel.as_str(), ":", data],
            Claim::SignIn { user_data } => ["::user::", user_data, "", ""],
        })
    }
}

/// The signed string behind the socket id.
struct SignedTail<'a>([&'a str; 4]);

impl<'a> SignedTail<'a> {
    fn parts(&self, socket_id: &'a [u8]) -> [&'a [u8]; 5] {
        let [a, b, c, d] = self.0.map(str::as_bytes);
        [socket_id, a, b, c, d]
    }
}

/// Key and signature. Text without a colon is all key, so it is reported as a wrong one.
fn split_auth(auth: &str) -> (&str, &str) {
    auth.split_once(':').unwrap_or((auth, ""))
}

/// An [`AuthError`] with what its text mentions.
#[derive(Clone, Copy, Debug)]
pub struct Explanation<'a> {
    auth: ClientAuth<'a>,
    error: AuthError,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, signature) = split_auth(self.auth.auth.unwrap_or_default());
        match (self.error, self.auth.claim) {
            (AuthError::Missing, Claim::Subscribe { channel, .. }) => {
                write!(f, "Auth info required to subscribe to {channel}")
            }
            (AuthError::Missing, Claim::SignIn { .. }) => {
                f.write_str("Auth info required to sign in")
            }
            (AuthError::UnknownKey, Claim::Subscribe { .. }) => {
                write!(f, "Invalid key in subscription auth data: '{key}'")
            }
            (AuthError::UnknownKey, Claim::SignIn { .. }) => {
                write!(f, "Invalid key in signin auth data: '{key}'")
            }
            (AuthError::Mismatch, _) => {
                let SignedTail([a, b, c, d]) = self.auth.signed_tail();
                write!(
                    f,
                    "Invalid signature: Expected HMAC SHA256 hex digest of \
                     {}{a}{b}{c}{d}, but got {signature}",
                    self.auth.socket_id
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::socket_id::SocketId;
    use crate::seed::Seed;

    const KEY: &str = "278d425bdf160c739803";
    const SECRET: &[u8] = b"7ad3773142a6692b25b8";

    const FOOBAR: &str = "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
    const SIGN_IN: &str = "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba";
    const MR_PUSHER: &str = "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c";

    fn verify(claim: Claim<'_>, auth: &str) -> Result<(), AuthError> {
        let key = SigningKey::new(SECRET);
        let socket_id = SocketId::parse("1234.1234").unwrap().possible().unwrap();
        ClientAuth {
            socket_id,
            claim,
            auth: Some(auth),
        }
        .verify(|name| (name == KEY).then_some(&key))
    }

    fn subscribe<'a>(channel: &'a str, channel_data: Option<&'a str>) -> Claim<'a> {
        Claim::Subscribe {
            channel: ChannelName::parse(channel, 200).unwrap(),
            channel_data,
        }
    }

    fn signed(text: &str) -> String {
        let hex = SigningKey::new(SECRET).sign_hex(&[text.as_bytes()]);
        format!("{KEY}:{}", std::str::from_utf8(&hex).unwrap())
    }

    #[test]
    fn the_vectors_of_websocket_spec_7_2() {
        for (claim, signature) in [
            (subscribe("private-foobar", None), FOOBAR),
            (
                Claim::SignIn {
                    user_data: r#"{"id":"12345"}"#,
                },
                SIGN_IN,
            ),
            (
                subscribe(
                    "presence-foobar",
                    Some(r#"{"user_id":10,"user_info":{"name":"Mr. Pusher"}}"#),
                ),
                MR_PUSHER,
            ),
            (
                subscribe(
                    "presence-foobar",
                    Some(r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#),
                ),
                "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
            ),
            (
                subscribe("private-encrypted-room", None),
                "98e84cf417fd22d611fa93b4ec322087ab4298977c873bc416735f8743194648",
            ),
            (
                subscribe(
                    "presence-room",
                    Some(r#"{"user_id":"u1","user_info":{"name":"Ann"}}"#),
                ),
                "47b86687774d1334e979dfb106d4a331bc5ddbf060f2c450e6a286dc9d425d8b",
            ),
        ] {
            assert_eq!(
                verify(claim, &format!("{KEY}:{signature}")),
                Ok(()),
                "{claim:?}"
            );
            // No vector fits another claim.
            let other = subscribe("private-other", None);
            assert_eq!(
                verify(other, &format!("{KEY}:{signature}")),
                Err(AuthError::Mismatch)
            );
        }
    }

    #[test]
    fn the_digest_printed_beside_the_edited_example_is_wrong() {
        let claim = subscribe(
            "presence-foobar",
            Some(r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#),
        );
        assert_eq!(
            verify(claim, &format!("{KEY}:{MR_PUSHER}")),
            Err(AuthError::Mismatch)
        );
    }

    #[test]
    fn every_way_to_get_auth_wrong() {
        let claim = subscribe("private-foobar", None);
        let upper = FOOBAR.to_uppercase();
        for (auth, error) in [
            (String::new(), AuthError::Missing),
            ("x".into(), AuthError::UnknownKey),
            (":".into(), AuthError::UnknownKey),
            (format!("wrong:{FOOBAR}"), AuthError::UnknownKey),
            (format!(" {KEY}:{FOOBAR}"), AuthError::UnknownKey),
            (FOOBAR.into(), AuthError::UnknownKey),
            (KEY.into(), AuthError::Mismatch),
            (format!("{KEY}:"), AuthError::Mismatch),
            (format!("{KEY}:{upper}"), AuthError::Mismatch),
            (format!("{KEY}:{}", &FOOBAR[..63]), AuthError::Mismatch),
            (format!("{KEY}:{FOOBAR}0"), AuthError::Mismatch),
            (format!("{KEY}:{FOOBAR} "), AuthError::Mismatch),
            (format!("{KEY}::{FOOBAR}"), AuthError::Mismatch),
            (format!("{KEY}:\u{e9}"), AuthError::Mismatch),
        ] {
            assert_eq!(verify(claim, &auth), Err(error), "{auth}");
        }
        let mut missing = ClientAuth {
            socket_id: any_id(),
            claim,
            auth: None,
        };
        assert_eq!(missing.verify(|_| None), Err(AuthError::Missing));
        missing.auth = Some(&upper);
        assert_eq!(missing.verify(|_| None), Err(AuthError::UnknownKey));
    }

    #[test]
    fn no_flipped_digit_is_accepted() {
        for place in 0..SIGNATURE_HEX_BYTES {
            let mut signature = FOOBAR.to_owned();
            let flipped = if &signature[place..=place] == "0" {
                "1"
            } else {
                "0"
            };
            signature.replace_range(place..=place, flipped);
            let auth = format!("{KEY}:{signature}");
            let claim = subscribe("private-foobar", None);
            assert_eq!(verify(claim, &auth), Err(AuthError::Mismatch));
        }
    }

    #[test]
    fn channel_data_may_be_left_out_of_the_signature_except_on_presence() {
        let data = Some("{\"x\":1}");
        for channel in ["private-a", "private-cache-a", "private-encrypted-a"] {
            let (two, three) = (
                format!("1234.1234:{channel}"),
                format!("1234.1234:{channel}:{{\"x\":1}}"),
            );
            assert_eq!(verify(subscribe(channel, data), &signed(&two)), Ok(()));
            assert_eq!(verify(subscribe(channel, data), &signed(&three)), Ok(()));
            assert_eq!(verify(subscribe(channel, None), &signed(&two)), Ok(()));
            assert_eq!(
                verify(subscribe(channel, None), &signed(&three)),
                Err(AuthError::Mismatch)
            );
            let with_colon = format!("1234.1234:{channel}:");
            assert_eq!(
                verify(subscribe(channel, Some("")), &signed(&with_colon)),
                Ok(())
            );
            assert_eq!(verify(subscribe(channel, Some("")), &signed(&two)), Ok(()));
        }
        for channel in ["presence-a", "presence-cache-a"] {
            let (two, three) = (
                format!("1234.1234:{channel}"),
                format!("1234.1234:{channel}:{{\"x\":1}}"),
            );
            let refused = Err(AuthError::Mismatch);
            assert_eq!(verify(subscribe(channel, data), &signed(&two)), refused);
            assert_eq!(verify(subscribe(channel, data), &signed(&three)), Ok(()));
            assert_eq!(verify(subscribe(channel, None), &signed(&two)), Ok(()));
            assert_eq!(verify(subscribe(channel, None), &signed(&three)), refused);
            assert_eq!(verify(subscribe(channel, Some("")), &signed(&two)), refused);
            assert_eq!(
                verify(subscribe(channel, Some("{\"x\":1} ")), &signed(&three)),
                refused,
                "one space added after signing"
            );
        }
    }

    #[test]
    fn a_signature_counts_for_one_socket_and_one_purpose() {
        let claim = subscribe("private-foobar", None);
        assert_eq!(
            verify(claim, &signed("1234.1235:private-foobar")),
            Err(AuthError::Mismatch)
        );
        // A sign-in cannot be dressed up as a subscription: `:` is in no channel name.
        assert_eq!(ChannelName::parse(":user:", 200).ok(), None);
        let sign_in = Claim::SignIn { user_data: "{}" };
        assert_eq!(
            verify(sign_in, &signed("1234.1234:private-a:{}")),
            Err(AuthError::Mismatch)
        );
    }

    #[test]
    fn another_secret_under_the_same_key_is_refused() {
        let other = SigningKey::new(b"another");
        let auth = format!("{KEY}:{FOOBAR}");
        let claim = subscribe("private-foobar", None);
        let request = ClientAuth {
            socket_id: any_id(),
            claim,
            auth: Some(&auth),
        };
        assert_eq!(request.verify(|_| Some(&other)), Err(AuthError::Mismatch));
    }

    #[test]
    fn explanations_are_those_of_the_spec() {
        let data = Some("{\"x\":1}");
        for (claim, auth, error, text) in [
            (
                subscribe("private-a", None),
                None,
                AuthError::Missing,
                "Auth info required to subscribe to private-a",
            ),
            (
                subscribe("private-a", None),
                Some("k:s"),
                AuthError::UnknownKey,
                "Invalid key in subscription auth data: 'k'",
            ),
            (
                subscribe("private-a", None),
                Some("k:s"),
                AuthError::Mismatch,
                "Invalid signature: Expected HMAC SHA256 hex digest of 1234.1234:private-a, \
                 but got s",
            ),
            (
                subscribe("presence-a", data),
                Some("k:s:t"),
                AuthError::Mismatch,
                "Invalid signature: Expected HMAC SHA256 hex digest of \
                 1234.1234:presence-a:{\"x\":1}, but got s:t",
            ),
            (
                Claim::SignIn { user_data: "{}" },
                Some("k:"),
                AuthError::Mismatch,
                "Invalid signature: Expected HMAC SHA256 hex digest of 1234.1234::user::{}, \
                 but got ",
            ),
        ] {
            let request = ClientAuth {
                socket_id: any_id(),
                claim,
                auth,
            };
            assert_eq!(request.explain(error).to_string(), text);
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", SigningKey::new(SECRET)), "SigningKey(..)");
    }

    #[test]
    fn parts_sign_as_their_concatenation() {
        let key = SigningKey::new(SECRET);
        let whole = key.sign_hex(&[b"1234.1234:private-foobar"]);
        assert_eq!(&whole, FOOBAR.as_bytes());
        for cut in 0..=24 {
            let (a, b) = b"1234.1234:private-foobar".split_at(cut);
            assert_eq!(key.sign_hex(&[a, b]), whole);
        }
    }

    #[test]
    fn arbitrary_auth_is_refused() {
        let mut random = Seed::new(7);
        for _ in 0..2_000 {
            fuzz_client_auth(&random.mixture(b"278d425bdf160c739803:58df8b0c36d6982b", 120));
        }
    }

    pub(crate) fn fuzz_client_auth(data: &[u8]) {
        let auth = String::from_utf8_lossy(data);
        let claim = subscribe("presence-a", Some(&auth));
        let error = verify(claim, &auth).expect_err("nobody guesses a signature");
        let request = ClientAuth {
            socket_id: any_id(),
            claim,
            auth: Some(&auth),
        };
        assert!(!request.explain(error).to_string().is_empty());
    }

    fn any_id() -> SocketId {
        SocketId::parse("1234.1234").unwrap().possible().unwrap()
    }
}
