//! The signature of an HTTP API request, judged by its head alone (HTTP spec 2).
//!
//! Libraries disagree on what they escape and how they sign arrays, so several strings may be
//! tried; the first that matches decides how the parameters are read. Which keys an app has is
//! asked by a closure, and the time is given. The body is not seen here: [`Authenticated`] says
//! which digest it must have.
//!
//! Invariant: a request is accepted only with a fresh timestamp, version 1.0, an active key and
//! that key's signature over the very parameters that [`Authenticated::query`] shows. At most 24
//! digests are computed for one request, all over text that the bound of the head has bounded.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

use super::hex;
use super::query::{ArrayForm, Decoding, Query, QueryError, percent_decode};
use super::signature::SigningKey;

/// A timestamp this far from our clock, or further, is refused.
pub const TIMESTAMP_WINDOW_SECS: u64 = 600;

/// What is signed of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestRequest<'a> {
    /// In upper case, as HTTP has it.
    pub method: &'a str,
    /// The path as the client wrote it, less `prefix`; no query.
    pub path: &'a str,
    /// The configured prefix that was taken off the path. A signature over both counts as well.
    pub prefix: &'a str,
    /// What follows the `?`; empty if nothing does.
    pub query: &'a str,
    /// The header of HTTP spec 2.4, `KEY:SIGNATURE`.
    pub authorization: Option<&'a str>,
    /// Length of the body, `None` while it is not known (chunked).
    pub body_bytes: Option<u64>,
}

/// A request whose head is authentic.
#[derive(Clone, Debug)]
pub struct Authenticated<'a> {
    /// The parameters under the interpretation that was signed.
    pub query: Query<'a>,
    /// What the MD5 of the body must be.
    pub body_md5: Option<[u8; 16]>,
}

/// Why a request is not authentic. All are status 401, [`Error::TooManyParameters`] included;
/// [`RestRequest::explain`] gives the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Names the parameter.
    Missing(&'static str),
    TooManyParameters,
    Version,
    /// Not a decimal number.
    Timestamp,
    Expired {
        now_secs: u64,
    },
    UnknownKey,
    /// `auth_key` and the key of the header differ.
    KeysDiffer,
    Signature,
    /// `body_md5` is not that of the body, or not 32 lower-case hex digits.
    BodyMd5,
}

impl<'a> RestRequest<'a> {
    /// Checks everything that the head can show. `key_of` finds an active key of the app;
    /// `scratch` is cleared and reused.
    pub fn verify<'k>(
        &self,
        now_secs: u64,
        scratch: &mut Vec<u8>,
        mut key_of: impl FnMut(&str) -> Option<&'k SigningKey>,
    ) -> Result<Authenticated<'a>, Error> {
        let mut first_error = None;
        for decoding in self.decodings() {
            match self.verify_as(decoding, now_secs, scratch, &mut key_of) {
                Ok(authenticated) => return Ok(authenticated),
                Err(error) => first_error.get_or_insert(error),
            };
        }
        Err(first_error.unwrap_or(Error::Signature))
    }

    /// The key that the request names, before anything is verified: for the route that finds its
    /// app by it (HTTP spec 9).
    pub fn auth_key(&self) -> Option<String> {
        let (query, _) = self.parameters(Decoding::Form).ok()?;
        query.value("auth_key").map(str::to_owned)
    }

    /// The text of an error, in Pusher's words where it has some.
    pub fn explain(&self, error: Error) -> Explanation<'_> {
        Explanation {
            request: self,
            error,
        }
    }

    /// The ways to read the query that differ from each other, in the order in which they are
    /// tried. Most queries hold neither `%` nor `+`: one way, and nothing to decode.
    fn decodings(&self) -> impl Iterator<Item = Decoding> {
        let has = |byte| memchr(byte, self.query.as_bytes()).is_some();
        let (has_percent, has_plus) = (has(b'%'), has(b'+'));
        [
            (Decoding::Form, has_percent || has_plus),
            (Decoding::KeepPlus, has_percent && has_plus),
            (Decoding::Raw, true),
        ]
        .into_iter()
        .filter_map(|(decoding, differs)| differs.then_some(decoding))
    }

    fn verify_as<'k>(
        &self,
        decoding: Decoding,
        now_secs: u64,
        scratch: &mut Vec<u8>,
        key_of: &mut impl FnMut(&str) -> Option<&'k SigningKey>,
    ) -> Result<Authenticated<'a>, Error> {
        let (query, header) = self.parameters(decoding)?;
        let required = |name| query.value(name).ok_or(Error::Missing(name));
        let key = required("auth_key")?;
        check_timestamp(required("auth_timestamp")?, now_secs)?;
        if required("auth_version")? != "1.0" {
            return Err(Error::Version);
        }
        let signature = match (query.value("auth_signature"), header) {
            (Some(signature), _) => signature,
            (None, Some(header)) if header.key == key => header.signature,
            (None, Some(_)) => return Err(Error::KeysDiffer),
            (None, None) => return Err(Error::Missing("auth_signature")),
        };
        let body_md5 = match query.value("body_md5") {
            Some(digits) => Some(hex::decode(digits.as_bytes()).ok_or(Error::BodyMd5)?),
            None if self.body_bytes.is_some_and(|bytes| bytes > 0) => {
                return Err(Error::Missing("body_md5"));
            }
            None => None,
        };
        let key = key_of(key).ok_or(Error::UnknownKey)?;
        if !self.is_signed(&query, key, signature, scratch) {
            return Err(Error::Signature);
        }
        Ok(Authenticated { query, body_md5 })
    }

    /// The parameters, with the key of the header among them where the query names none, and the
    /// header where it counts: only without a signature in the query.
    fn parameters(&self, decoding: Decoding) -> Result<(Query<'a>, Option<Header<'a>>), Error> {
        let mut query = Query::parse(self.query, decoding).map_err(|error| match error {
            QueryError::TooManyParameters => Error::TooManyParameters,
            QueryError::NotUtf8 => Error::Signature,
        })?;
        let header = match query.value("auth_signature") {
            Some(_) => None,
            None => self.authorization.and_then(Header::parse),
        };
        if let Some(header) = header
            && query.value("auth_key").is_none()
        {
            query.insert("auth_key", header.key);
        }
        Ok((query, header))
    }

    /// Tries every form of the path with every form of the arrays.
    fn is_signed(
        &self,
        query: &Query<'a>,
        key: &SigningKey,
        signature: &str,
        scratch: &mut Vec<u8>,
    ) -> bool {
        let as_written = [Cow::Borrowed(self.prefix), Cow::Borrowed(self.path)];
        let decoded = (self.prefix.contains('%') || self.path.contains('%'))
            .then(|| {
                Some([
                    percent_decode(self.prefix, b'+')?,
                    percent_decode(self.path, b'+')?,
                ])
            })
            .flatten();
        let forms: &[ArrayForm] = match query.has_arrays() {
            true => &[ArrayForm::Brackets, ArrayForm::Joined],
            false => &[ArrayForm::Brackets],
        };
        forms.iter().any(|&form| {
            scratch.clear();
            query.write_to_sign(scratch, form);
            let signs = |prefix: &str, path: &str| {
                let [method, prefix, path] = [self.method, prefix, path].map(str::as_bytes);
                let parts = [method, b"\n", prefix, path, b"\n", scratch.as_slice()];
                key.verify_hex(&parts, signature.as_bytes())
            };
            [Some(&as_written), decoded.as_ref()]
                .into_iter()
                .flatten()
                .any(|[prefix, path]| {
                    signs("", path) || (!prefix.is_empty() && signs(prefix, path))
                })
        })
    }
}

impl Authenticated<'_> {
    /// Checks the complete body. `md5` is that of its bytes, also where there are none.
    pub fn check_body(&self, body_bytes: u64, md5: [u8; 16]) -> Result<(), Error> {
        check_body(self.body_md5, body_bytes, md5)
    }
}

/// The same with the [`Authenticated::body_md5`] of a head that is gone.
pub fn check_body(body_md5: Option<[u8; 16]>, body_bytes: u64, md5: [u8; 16]) -> Result<(), Error> {
    match body_md5 {
        Some(expected) if expected == md5 => Ok(()),
        Some(_) => Err(Error::BodyMd5),
        None if body_bytes == 0 => Ok(()),
        None => Err(Error::Missing("body_md5")),
    }
}

/// The `Authorization` header of HTTP spec 2.4. Other schemes have no colon and are no such header.
#[derive(Clone, Copy, Debug)]
struct Header<'a> {
    key: &'a str,
    signature: &'a str,
}

impl<'a> Header<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let (key, signature) = value.split_once(':')?;
        let blanks = [' ', '\t'];
        Some(Self {
            key: key.trim_matches(blanks),
            signature: signature.trim_matches(blanks),
        })
    }
}

fn check_timestamp(timestamp: &str, now_secs: u64) -> Result<(), Error> {
    if timestamp.is_empty() || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Timestamp);
    }
    // All digits and still no number: too large for one, so far in the future.
    let given_secs = timestamp.parse().unwrap_or(u64::MAX);
    if now_secs.abs_diff(given_secs) >= TIMESTAMP_WINDOW_SECS {
        return Err(Error::Expired { now_secs });
    }
    Ok(())
}

/// An [`Error`] with what its text mentions.
#[derive(Clone, Copy, Debug)]
pub struct Explanation<'a> {
    request: &'a RestRequest<'a>,
    error: Error,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            Error::Missing(name) => write!(f, "Missing parameter: {name}"),
            Error::TooManyParameters => f.write_str("Too many parameters"),
            Error::Version => f.write_str("Invalid auth_version: only 1.0 is supported"),
            Error::Timestamp => f.write_str("Invalid auth_timestamp: must be Unix seconds"),
            Error::Expired { now_secs } => {
                let query = self.parameters();
                let given = query
                    .as_ref()
                    .and_then(|query| query.value("auth_timestamp"));
                write!(
                    f,
                    "Timestamp expired: Given timestamp ({}) not within \
                     {TIMESTAMP_WINDOW_SECS}s of server time ({now_secs})",
                    given.unwrap_or_default()
                )
            }
            Error::UnknownKey => f.write_str("Unknown auth_key"),
            Error::KeysDiffer => {
                f.write_str("auth_key differs from the key of the Authorization header")
            }
            Error::Signature => self.write_mismatch(f),
            Error::BodyMd5 => f.write_str("Invalid body_md5: not the MD5 of the body received"),
        }
    }
}

impl Explanation<'_> {
    /// The parameters under the interpretation that is tried first.
    fn parameters(&self) -> Option<Query<'_>> {
        let mut decodings = self.request.decodings();
        decodings.find_map(|decoding| Some(self.request.parameters(decoding).ok()?.0))
    }

    /// Shows the string that should have been signed: the best help there is, and no secret.
    fn write_mismatch(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RestRequest {
            method,
            path,
            authorization,
            ..
        } = self.request;
        f.write_str("Authentication failed: Invalid signature.")?;
        let Some(query) = self.parameters() else {
            return Ok(());
        };
        let header = || {
            authorization
                .and_then(Header::parse)
                .map(|header| header.signature)
        };
        let sent = query
            .value("auth_signature")
            .or_else(header)
            .unwrap_or_default();
        let mut parameters = Vec::new();
        query.write_to_sign(&mut parameters, ArrayForm::Brackets);
        write!(
            f,
            " You should have sent HmacSHA256Hex(\"{method}\n{path}\n{}\", your_secret_key), \
             but you sent \"{sent}\"",
            String::from_utf8_lossy(&parameters)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    const KEY: &str = "278d425bdf160c739803";
    const SECRET: &[u8] = b"7ad3773142a6692b25b8";
    const NOW_SECS: u64 = 1_353_088_179;
    /// Key, timestamp and version as all examples of HTTP spec 3 have them.
    const AUTH: &str = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";

    fn request<'a>(method: &'a str, path: &'a str, query: &'a str) -> RestRequest<'a> {
        RestRequest {
            method,
            path,
            prefix: "",
            query,
            authorization: None,
            body_bytes: Some(0),
        }
    }

    fn verify<'a>(request: &RestRequest<'a>) -> Result<Authenticated<'a>, Error> {
        let key = SigningKey::new(SECRET);
        // The scratch of the request before must not matter.
        let mut scratch = b"left over".to_vec();
        request.verify(NOW_SECS, &mut scratch, |name| (name == KEY).then_some(&key))
    }

    /// The signature of a string of three lines.
    fn sign(text: &str) -> String {
        String::from_utf8(
            SigningKey::new(SECRET)
                .sign_hex(&[text.as_bytes()])
                .to_vec(),
        )
        .unwrap()
    }

    /// The examples of HTTP spec 3: method, path and what the query has beside [`AUTH`], and on the
    /// next line the signature.
    const EXAMPLES: &str = "\
POST /apps/3/events body_md5=ec365a775a4cd0599faeb73354201b6f
da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c
POST /apps/3/batch_events body_md5=7ed9624933cde2e88ffe4a638141a6a2
fed07742a26f964b3cd459b8cf91d5384f3de8dbe6498f3483a8d7acbe55c0e5
GET /apps/3/channels info=user_count&filter_by_prefix=presence-
16819168891cb5dfd72b5c7a5d3d602605b26c6ba1930033b5e2eeeb65010291
GET /apps/3/channels/cache-room info=subscription_count%2Ccache
f489e1fdaefe95a5968ea294bd0a48a27e3ffcc4f7daaaf04050838d75216970
GET /apps/3/channels/cache-room info=subscription_count,cache
f489e1fdaefe95a5968ea294bd0a48a27e3ffcc4f7daaaf04050838d75216970
GET /apps/3/channels/presence-foobar/users body_md5=d41d8cd98f00b204e9800998ecf8427e
3d68b512095fd42cb6741cc80616761b1c77d00fcc4d6d9740f09504a4b761b0
POST /apps/3/users/12345/terminate_connections body_md5=99914b932bd37a50b983c5e7c90ae93b
01fa634edeb0cae84115307cad5c23f65a46cd286461b1c89637a3b5871a8f0e
GET /apps/3/channels Name=Something%20else
e661e8bf75b3959cbeab2cee466c873b918e39bfd0980693aadf77d4da8ba77c
GET /apps/3/channels Name=Something+else
e661e8bf75b3959cbeab2cee466c873b918e39bfd0980693aadf77d4da8ba77c
GET /apps/3/channels filter_by_prefix=a%40b%2Cc%3Bd%3De
1170b20d7f1514961b256999ee810ba746b7bb9e40993556f80d0625fabad34b
GET /apps/3/channels filter_by_prefix=a@b,c;d=e
1170b20d7f1514961b256999ee810ba746b7bb9e40993556f80d0625fabad34b
GET /apps/3/channels info[]=user_count&info[]=subscription_count
175192df3115c9975cc5fa47eec612907413e243ddbfa27967814593f0e0bf82
GET /apps/3/channels info%5B0%5D=user_count&info%5B1%5D=subscription_count
b5d3066c50a4e758b7d677e4f65cf6e909baab523911ba9dea505a65412149e6
POST /apps/3/events body_md5=b108387cbe6b23ad980989aebd4ebc3c
45cd7ed796a2c17d475aeff1e474e04484ade176a99caf85a51bda3499de16a5
POST /apps/3/events body_md5=2ea313da3dc726896fa0a76f04e63c6c
1f256cf654b51cd06ffa259e77991b7079111c79b6ec288d0b47dfea973bd998
POST /apps/3/users/12345/terminate_connections &
0bd2da4cd2c60cbe4627bea865cb306fda26121f3665d934db3e0f3f542a91f8
";

    #[test]
    fn the_examples_of_http_spec_3() {
        let lines: Vec<_> = EXAMPLES.lines().collect();
        assert_eq!(lines.len(), 2 * 16);
        for example in lines.chunks(2) {
            let words: Vec<_> = example[0].split(' ').collect();
            let (method, path, more) = (words[0], words[1], words[2]);
            let signature = example[1];
            for query in [
                format!("{AUTH}&{more}&auth_signature={signature}"),
                format!("{more}&auth_signature={signature}&{AUTH}"),
            ] {
                let result = verify(&request(method, path, &query));
                assert!(result.is_ok(), "{query}: {:?}", result.err());
                let result = verify(&request("PUT", path, &query));
                assert_eq!(result.err(), Some(Error::Signature), "the method is signed");
            }
        }
    }

    #[test]
    fn the_header_form_of_http_spec_3() {
        const SIGNATURE: &str = "1cafa6382331c976588eb6bd3925a988e4158402be06c4626d0e97d2981f5382";
        let wrong = SIGNATURE.replace('1', "2");
        let no_key = "auth_timestamp=1353088179&auth_version=1.0";
        let query_signed = format!("{AUTH}&auth_signature={SIGNATURE}");
        let query_wrong = format!("{AUTH}&auth_signature={wrong}");
        for (query, header, expected) in [
            (no_key, Some(format!("{KEY}:{SIGNATURE}")), None),
            (no_key, Some(format!(" {KEY} :\t{SIGNATURE} ")), None),
            (AUTH, Some(format!("{KEY}:{SIGNATURE}")), None),
            (AUTH, Some(format!("{KEY}:{wrong}")), Some(Error::Signature)),
            (
                AUTH,
                Some(format!("other:{SIGNATURE}")),
                Some(Error::KeysDiffer),
            ),
            (
                no_key,
                Some(format!("other:{SIGNATURE}")),
                Some(Error::UnknownKey),
            ),
            (
                no_key,
                Some("Bearer abc".into()),
                Some(Error::Missing("auth_key")),
            ),
            (
                AUTH,
                Some("Bearer abc".into()),
                Some(Error::Missing("auth_signature")),
            ),
            (AUTH, None, Some(Error::Missing("auth_signature"))),
            // The query wins, right or wrong.
            (&query_signed, Some(format!("{KEY}:{wrong}")), None),
            (&query_signed, Some("other:x".into()), None),
            (
                &query_wrong,
                Some(format!("{KEY}:{SIGNATURE}")),
                Some(Error::Signature),
            ),
        ] {
            let authorization = header.as_deref();
            let request = RestRequest {
                authorization,
                ..request("GET", "/apps/3/channels", query)
            };
            assert_eq!(verify(&request).err(), expected, "{query} {header:?}");
        }
    }

    /// Sends `query` with the signature of `signed`, the third line of the string.
    fn verify_signed(query: &str, signed: &str) -> Result<Vec<(String, String)>, Error> {
        let signature = sign(&format!("GET\n/apps/3/channels\n{signed}"));
        let query = format!("{query}&auth_signature={signature}");
        let authenticated = verify(&request("GET", "/apps/3/channels", &query))?;
        let mut seen = Vec::new();
        for name in ["info", "name", "x", "auth_timestamp"] {
            seen.extend(
                authenticated
                    .query
                    .values(name)
                    .map(|v| (name.into(), v.to_owned())),
            );
        }
        seen.retain(|(name, _)| name != "auth_timestamp");
        Ok(seen)
    }

    #[test]
    fn what_is_signed_is_what_is_used() {
        for (sent, signed, seen) in [
            // Of duplicates the last, whatever the case of the name.
            (
                "info=a&info=user_count",
                "info=user_count",
                Ok(vec![("info", "user_count")]),
            ),
            (
                "info=a&Info=user_count",
                "info=user_count",
                Ok(vec![("info", "user_count")]),
            ),
            ("info=a&info=user_count", "info=a", Err(Error::Signature)),
            (
                "info=a&info=user_count",
                "info=a&info=user_count",
                Err(Error::Signature),
            ),
            // Empty values, and names alone.
            ("info=", "info=", Ok(vec![("info", "")])),
            ("info", "info=", Ok(vec![("info", "")])),
            // Only the first `=` separates, only `&` ends.
            ("x=a=b;c", "x=a=b;c", Ok(vec![("x", "a=b;c")])),
            // Plus: a space, itself, or undecoded.
            ("x=a+b", "x=a b", Ok(vec![("x", "a b")])),
            ("x=a+b", "x=a+b", Ok(vec![("x", "a+b")])),
            ("x=a%20b+c", "x=a b c", Ok(vec![("x", "a b c")])),
            ("x=a%20b+c", "x=a b+c", Ok(vec![("x", "a b+c")])),
            ("x=a%20b+c", "x=a%20b+c", Ok(vec![("x", "a%20b+c")])),
            ("x=a%20b+c", "x=a%20b c", Err(Error::Signature)),
            // Escapes: of UTF-8, invalid ones, and of what is not UTF-8.
            ("x=%c3%A9", "x=\u{e9}", Ok(vec![("x", "\u{e9}")])),
            ("x=\u{e9}", "x=\u{e9}", Ok(vec![("x", "\u{e9}")])),
            ("x=50%", "x=50%", Ok(vec![("x", "50%")])),
            ("x=%zz%4", "x=%zz%4", Ok(vec![("x", "%zz%4")])),
            ("x=%ff", "x=%ff", Ok(vec![("x", "%ff")])),
            ("x=%ff", "x=\u{fffd}", Err(Error::Signature)),
            ("%58=1", "x=1", Ok(vec![("x", "1")])),
            // Arrays, two forms sent and two forms signed.
            (
                "info[]=a&info[]=b",
                "info[]=a&info[]=b",
                Ok(vec![("info", "a"), ("info", "b")]),
            ),
            (
                "info[]=a&info[]=b",
                "info=a,b",
                Ok(vec![("info", "a"), ("info", "b")]),
            ),
            (
                "info[0]=a&info[1]=b",
                "info=a,b",
                Ok(vec![("info", "a"), ("info", "b")]),
            ),
            (
                "info[0]=a&info[1]=b",
                "info[]=a&info[]=b",
                Ok(vec![("info", "a"), ("info", "b")]),
            ),
            ("info[]=b&info[]=a", "info=a,b", Err(Error::Signature)),
            ("x[y]=1", "x[y]=1", Ok(vec![])),
            ("x[0][1]=1", "x[0][1]=1", Ok(vec![])),
        ] {
            let (sent, signed) = (format!("{AUTH}&{sent}"), format!("{AUTH}&{signed}"));
            let seen = seen.map(|seen| {
                seen.into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            });
            assert_eq!(verify_signed(&sent, &signed), seen, "{sent} / {signed}");
        }
    }

    #[test]
    fn of_a_repeated_timestamp_the_last_counts() {
        let sent = format!("auth_timestamp=1&{AUTH}");
        assert_eq!(verify_signed(&sent, AUTH), Ok(vec![]));
        let old = AUTH.replace("1353088179", "1");
        let (sent, now_secs) = (format!("{AUTH}&auth_timestamp=1"), NOW_SECS);
        assert_eq!(verify_signed(&sent, &old), Err(Error::Expired { now_secs }));
        assert_eq!(verify_signed(&sent, AUTH), Err(Error::Expired { now_secs }));
    }

    #[test]
    fn a_timestamp_counts_less_than_600_seconds() {
        let now_secs = NOW_SECS;
        for (timestamp, expected) in [
            ("1353088179", None),
            ("1353087580", None),
            ("1353088778", None),
            ("1353087579", Some(Error::Expired { now_secs })),
            ("1353088779", Some(Error::Expired { now_secs })),
            ("0", Some(Error::Expired { now_secs })),
            (
                "99999999999999999999999999",
                Some(Error::Expired { now_secs }),
            ),
            ("001353088179", None),
            ("", Some(Error::Timestamp)),
            ("abc", Some(Error::Timestamp)),
            ("1e9", Some(Error::Timestamp)),
            ("-1", Some(Error::Timestamp)),
            ("1353088179.5", Some(Error::Timestamp)),
            ("%2b1353088179", Some(Error::Timestamp)),
            ("\u{661}", Some(Error::Timestamp)),
        ] {
            let query = AUTH.replace("1353088179", timestamp);
            assert_eq!(verify_signed(&query, &query).err(), expected, "{timestamp}");
        }
    }

    #[test]
    fn every_parameter_is_required_and_checked() {
        for (part, error) in [
            ("auth_key=278d425bdf160c739803", Error::Missing("auth_key")),
            (
                "auth_timestamp=1353088179",
                Error::Missing("auth_timestamp"),
            ),
            ("auth_version=1.0", Error::Missing("auth_version")),
        ] {
            let query = AUTH.replace(part, "a=b");
            assert_eq!(verify_signed(&query, &query).err(), Some(error), "{query}");
        }
        for version in ["1.1", "1", "", "1.00", "01.0"] {
            let query = AUTH.replace("1.0", version);
            assert_eq!(
                verify_signed(&query, &query).err(),
                Some(Error::Version),
                "{version}"
            );
        }
        let query = AUTH.replace(KEY, "another");
        assert_eq!(verify_signed(&query, &query).err(), Some(Error::UnknownKey));
        assert_eq!(
            verify(&request("GET", "/apps/3/channels", "")).err(),
            Some(Error::Missing("auth_key"))
        );
    }

    #[test]
    fn signatures_of_any_other_form_are_wrong() {
        let right = sign(&format!("GET\n/a\n{AUTH}"));
        let accepted = format!("{AUTH}&auth_signature={right}");
        assert!(verify(&request("GET", "/a", &accepted)).is_ok());
        for wrong in [
            right.to_uppercase(),
            right[..63].to_owned(),
            format!("{right}0"),
            String::new(),
            "zz".repeat(32),
            "\u{e9}".repeat(32),
            format!("+{right}"),
        ] {
            let query = format!("{AUTH}&auth_signature={wrong}");
            let result = verify(&request("GET", "/a", &query));
            assert_eq!(result.err(), Some(Error::Signature), "{wrong}");
        }
    }

    #[test]
    fn the_path_is_signed_as_written_or_decoded_with_or_without_its_prefix() {
        let signed_path = |prefix, path, signed: &str| {
            let query = format!(
                "{AUTH}&auth_signature={}",
                sign(&format!("GET\n{signed}\n{AUTH}"))
            );
            verify(&RestRequest {
                prefix,
                ..request("GET", path, &query)
            })
            .is_ok()
        };
        for (prefix, path, signed, accepted) in [
            ("", "/apps/3/channels/a%3Db", "/apps/3/channels/a%3Db", true),
            ("", "/apps/3/channels/a%3Db", "/apps/3/channels/a=b", true),
            ("", "/apps/3/channels/a+b", "/apps/3/channels/a+b", true),
            ("", "/apps/3/channels/a%2Bb", "/apps/3/channels/a+b", true),
            ("", "/apps/3/channels/a+b", "/apps/3/channels/a b", false),
            ("", "/apps/3/channels/%ff", "/apps/3/channels/%ff", true),
            ("", "/apps/3/channels/", "/apps/3/channels/", true),
            ("", "/apps/3/channels/", "/apps/3/channels", false),
            ("/ws", "/apps/3/channels", "/apps/3/channels", true),
            ("/ws", "/apps/3/channels", "/ws/apps/3/channels", true),
            ("/ws", "/apps/3/a%40", "/ws/apps/3/a@", true),
            ("/ws", "/apps/3/channels", "/x/apps/3/channels", false),
        ] {
            assert_eq!(
                signed_path(prefix, path, signed),
                accepted,
                "{prefix} {path} {signed}"
            );
        }
    }

    #[test]
    fn a_body_needs_its_digest_and_an_empty_one_may_have_it() {
        const OF_NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";
        let of_nothing = hex::decode(OF_NOTHING.as_bytes()).unwrap();
        let with_md5 = format!("{AUTH}&body_md5={OF_NOTHING}");
        let check = |query: &str, declared: Option<u64>| {
            let signature = sign(&format!("POST\n/a\n{query}"));
            let query = format!("{query}&auth_signature={signature}");
            let request = RestRequest {
                body_bytes: declared,
                ..request("POST", "/a", &query)
            };
            verify(&request).map(|authenticated| {
                [(0, of_nothing), (9, of_nothing), (9, [1; 16])]
                    .map(|(bytes, md5)| authenticated.check_body(bytes, md5))
            })
        };
        let missing = Error::Missing("body_md5");
        assert_eq!(
            check(AUTH, Some(0)),
            Ok([Ok(()), Err(missing), Err(missing)])
        );
        assert_eq!(check(AUTH, None), Ok([Ok(()), Err(missing), Err(missing)]));
        assert_eq!(check(AUTH, Some(9)), Err(missing));
        for declared in [Some(0), Some(9), None] {
            assert_eq!(
                check(&with_md5, declared),
                Ok([Ok(()), Ok(()), Err(Error::BodyMd5)])
            );
        }
        for md5 in [
            &OF_NOTHING[..31],
            "",
            "g41d8cd98f00b204e9800998ecf8427e",
            &"\u{e9}".repeat(16),
        ] {
            let query = format!("{AUTH}&body_md5={md5}");
            assert_eq!(check(&query, Some(9)), Err(Error::BodyMd5), "{md5}");
        }
        let upper = format!("{AUTH}&body_md5={}", OF_NOTHING.to_uppercase());
        assert_eq!(check(&upper, Some(0)), Err(Error::BodyMd5));
    }

    #[test]
    fn the_number_of_parameters_is_bounded() {
        let many = |count: usize| format!("{AUTH}{}", "&b=".repeat(count - 4));
        assert_eq!(verify_signed(&many(64), &format!("{AUTH}&b=")), Ok(vec![]));
        assert_eq!(
            verify_signed(&many(65), &format!("{AUTH}&b=")),
            Err(Error::TooManyParameters)
        );
    }

    #[test]
    fn keys_are_found_under_every_reading_of_the_query() {
        let key = SigningKey::new(SECRET);
        let query = AUTH.replace(KEY, "a+b");
        let query = format!(
            "{query}&auth_signature={}",
            sign(&format!("GET\n/a\n{query}"))
        );
        let request = request("GET", "/a", &query);
        let result = request.verify(NOW_SECS, &mut Vec::new(), |k| (k == "a+b").then_some(&key));
        assert!(result.is_ok());
        assert_eq!(
            request.auth_key().as_deref(),
            Some("a b"),
            "read once, as a form"
        );
    }

    #[test]
    fn explanations_say_what_to_do() {
        let now_secs = NOW_SECS;
        let query = format!("{AUTH}&Info=a%2Cb&auth_signature=0123");
        let request = request("GET", "/apps/3/channels", &query);
        for (error, text) in [
            (
                Error::Signature,
                "Authentication failed: Invalid signature. You should have sent \
                 HmacSHA256Hex(\"GET\n/apps/3/channels\nauth_key=278d425bdf160c739803&\
                 auth_timestamp=1353088179&auth_version=1.0&info=a,b\", your_secret_key), \
                 but you sent \"0123\"",
            ),
            (Error::Missing("auth_key"), "Missing parameter: auth_key"),
            (Error::UnknownKey, "Unknown auth_key"),
            (
                Error::Expired { now_secs },
                "Timestamp expired: Given timestamp (1353088179) not within 600s of server time \
                 (1353088179)",
            ),
        ] {
            assert_eq!(request.explain(error).to_string(), text);
        }
        let header = format!("{KEY}:4567");
        let by_header = RestRequest {
            query: "",
            authorization: Some(&header),
            ..request
        };
        assert!(
            by_header
                .explain(Error::Signature)
                .to_string()
                .ends_with("\"4567\"")
        );
    }

    #[test]
    fn what_a_careful_client_signs_is_accepted_however_it_is_escaped_and_ordered() {
        let mut random = Seed::new(12);
        for _ in 0..500 {
            // The slow twin of signing: a sorted map, joined.
            let mut signed = std::collections::BTreeMap::new();
            for pair in AUTH.split('&') {
                let (name, value) = pair.split_once('=').unwrap();
                signed.insert(name.to_owned(), value.to_owned());
            }
            for _ in 0..random.below(5) {
                let name = format!("n{}", random.text(b"abcxyz_", 4).replace('\u{fffd}', "_"));
                signed.insert(
                    name.to_lowercase(),
                    random.text(b"value ,;=&+%25\xc3\xa9", 12),
                );
            }
            let lines: Vec<_> = signed.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let signature = sign(&format!("GET\n/a\n{}", lines.join("&")));
            signed.insert("auth_signature".into(), signature);
            let mut pairs: Vec<_> = signed
                .iter()
                .map(|(n, v)| format!("{}={}", escaped(n, &mut random), escaped(v, &mut random)))
                .collect();
            for i in (1..pairs.len()).rev() {
                pairs.swap(i, random.below(i + 1));
            }
            let query = pairs.join("&");
            let authenticated = verify(&request("GET", "/a", &query)).expect(&query);
            for (name, value) in &signed {
                assert_eq!(
                    authenticated.query.value(name),
                    Some(value.as_str()),
                    "{query}"
                );
            }
        }
    }

    /// Percent-encodes what must be, and by chance anything else.
    fn escaped(text: &str, random: &mut Seed) -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' if random.below(4) > 0 => {
                    char::from(byte).to_string()
                }
                b' ' if random.below(2) > 0 => "+".into(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    }

    #[test]
    fn arbitrary_requests_are_refused() {
        let mut random = Seed::new(11);
        let vocabulary =
            b"auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0\
            &auth_signature=0&body_md5=d41d8cd98f00b204e9800998ecf8427e&info[]=%2B+%zz&x[0]=\xff";
        for _ in 0..1_000 {
            fuzz_rest_request(&random.mixture(vocabulary, 300));
        }
    }

    pub(crate) fn fuzz_rest_request(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let complete = format!("{text}&{AUTH}&auth_signature={text}");
        for query in [&*text, &complete] {
            let (path, authorization) = (&*text, Some(&*text));
            let request = RestRequest {
                authorization,
                ..request("GET", path, query)
            };
            let error = verify(&request).expect_err("nobody guesses a signature");
            assert!(!request.explain(error).to_string().is_empty());
        }
    }
}
