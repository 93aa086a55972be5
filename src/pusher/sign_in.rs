//! The `user_data` of a sign-in: who signs in, and whom they watch (WebSocket spec 14).
//!
//! Does not check signatures, and does not know whether sign-in or watchlists are enabled.
//!
//! Invariant: the id of a [`User`] satisfies the rules of a [`UserId`]; the `user_info` is JSON text
//! kept byte for byte.

use std::borrow::Cow;
use std::collections::HashSet;

use super::channel::UserId;
use super::json::{self, Kind, Token};
use super::presence::USER_INFO_ABSENT;

/// Who a connection is signed in as.
#[derive(Clone, Debug)]
pub struct User<'a> {
    pub id: Cow<'a, str>,
    /// JSON text, [`USER_INFO_ABSENT`] where there is none or `null`.
    pub user_info: &'a str,
    watchlist: Option<Token<'a>>,
}

/// The text is not a JSON object, or has no usable string `id`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidUser;

/// The users that a connection asked to watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watchlist<'a> {
    /// Distinct, in the order given.
    pub users: Vec<Cow<'a, str>>,
    /// There were more than were taken.
    pub is_cut: bool,
}

impl<'a> User<'a> {
    pub fn parse(user_data: &'a str) -> Result<Self, InvalidUser> {
        let [id, user_info, watchlist] =
            json::fields(user_data, &["id", "user_info", "watchlist"]).map_err(|_| InvalidUser)?;
        let id = id.and_then(|id| id.decode()).ok_or(InvalidUser)?;
        UserId::parse(&id).map_err(|_| InvalidUser)?;
        let user_info = match user_info {
            Some(info) if !info.is_null() => info.raw(),
            _ => USER_INFO_ABSENT,
        };
        Ok(Self {
            id,
            user_info,
            watchlist,
        })
    }

    /// The first `users_max` distinct strings of the list. Other entries are skipped, and what is
    /// no list is an empty one.
    pub fn watchlist(&self, users_max: usize) -> Watchlist<'a> {
        let mut list = Watchlist {
            users: Vec::new(),
            is_cut: false,
        };
        let mut seen = HashSet::new();
        let elements = match self.watchlist {
            Some(token) if token.kind() == Kind::Array => token.elements().ok(),
            _ => None,
        };
        // The whole document was checked, so no element is malformed.
        for user in elements
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.decode())
        {
            if seen.contains(&user) {
                continue;
            }
            if list.users.len() == users_max {
                list.is_cut = true;
                break;
            }
            seen.insert(user.clone());
            list.users.push(user);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn user_data_needs_a_string_id_of_the_alphabet() {
        for (user_data, expected) in [
            (r#"{"id":"u1"}"#, Some(("u1", "{}"))),
            (r#"{"id":"\u0075@1","user_info":null}"#, Some(("u@1", "{}"))),
            (
                r#"{"user_info": {"name" : "Ann"},"id":"u1"}"#,
                Some(("u1", r#"{"name" : "Ann"}"#)),
            ),
            (r#"{"id":"a","id":"b"}"#, Some(("b", "{}"))),
            ("", None),
            ("[]", None),
            ("{}", None),
            ("not json", None),
            (r#"{"id":""}"#, None),
            (r#"{"id":1}"#, None),
            (r#"{"id":null}"#, None),
            (r##"{"id":"a#b"}"##, None),
            (r#"{"id":"a b"}"#, None),
            (r#"{"id":"a"} "#, Some(("a", "{}"))),
            (r#"{"id":"a"}x"#, None),
        ] {
            let user = User::parse(user_data);
            let found = user.as_ref().ok().map(|user| (&*user.id, user.user_info));
            assert_eq!(found, expected, "{user_data}");
        }
        let with_id = |chars| User::parse(&format!(r#"{{"id":"{}"}}"#, "u".repeat(chars))).is_ok();
        assert!(with_id(200));
        assert!(!with_id(201));
    }

    fn watchlist(list: &str, users_max: usize) -> (Vec<String>, bool) {
        let user_data = format!(r#"{{"id":"u1","watchlist":{list}}}"#);
        let list = User::parse(&user_data).unwrap().watchlist(users_max);
        (
            list.users.into_iter().map(Cow::into_owned).collect(),
            list.is_cut,
        )
    }

    #[test]
    fn a_watchlist_is_its_first_distinct_strings() {
        for (list, users_max, users, is_cut) in [
            (r#"["u2","u3"]"#, 2, &["u2", "u3"][..], false),
            (r#"["u2","u3","u4"]"#, 2, &["u2", "u3"], true),
            (
                r#"["u2","u3","u2","\u0075\u0033"]"#,
                2,
                &["u2", "u3"],
                false,
            ),
            (
                r#"["u2",1,null,{"a":["x"]},["y"],"u3"]"#,
                2,
                &["u2", "u3"],
                false,
            ),
            ("[]", 2, &[], false),
            (r#"["u2"]"#, 0, &[], true),
            ("null", 2, &[], false),
            (r#""u2""#, 2, &[], false),
            (r#"{"0":"u2"}"#, 2, &[], false),
        ] {
            assert_eq!(
                watchlist(list, users_max),
                (users.iter().map(|&u| u.into()).collect(), is_cut)
            );
        }
        let many = format!("[{}\"last\"]", r#""same","#.repeat(5_000));
        assert_eq!(
            watchlist(&many, 100),
            (vec!["same".into(), "last".into()], false)
        );
    }

    #[test]
    fn arbitrary_user_data_gives_valid_ids_or_nothing() {
        let mut random = Seed::new(14);
        let vocabulary = br##"{"id":"u1#","user_info":{},"watchlist":["u2","u3",7,"\u00e9"]}"##;
        for _ in 0..4_000 {
            fuzz_user(&random.mixture(vocabulary, 100));
            fuzz_user(
                &[
                    &vocabulary[..8],
                    b"\"",
                    &random.mixture(vocabulary, 40),
                    b"}",
                ]
                .concat(),
            );
        }
        fuzz_user(&[b"{\"id\":\"u1\",", &vocabulary[12..]].concat());
    }

    pub(crate) fn fuzz_user(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let Ok(user) = User::parse(text) else { return };
        assert!(UserId::parse(&user.id).is_ok());
        let list = user.watchlist(2);
        assert!(list.users.len() <= 2 && (!list.is_cut || list.users.len() == 2));
    }
}
