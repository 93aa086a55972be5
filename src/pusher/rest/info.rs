//! The attributes that an `info` asks for: of a publish, or of a query for channels.
//!
//! Which of them apply to a channel, and whether an unknown one is an error, is up to the endpoint.

use crate::pusher::json::{Kind, Token};

use super::Error;

/// The attributes that an `info` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    pub user_count: bool,
    pub subscription_count: bool,
    pub cache: bool,
    /// Something else: left out of the answer to a publish, refused in a query.
    pub unknown: bool,
}

impl Info {
    /// Reads a comma-separated list. Blanks around an item and empty items are ignored.
    pub fn parse(list: &str) -> Self {
        let mut info = Self::default();
        info.add(list);
        info
    }

    fn add(&mut self, list: &str) {
        for item in list.split(',') {
            match item.trim_matches([' ', '\t']) {
                "" => {}
                "user_count" => self.user_count = true,
                "subscription_count" => self.subscription_count = true,
                "cache" => self.cache = true,
                _ => self.unknown = true,
            }
        }
    }
}

/// A comma-separated string, or an array of such strings (HTTP spec 4.1).
pub(super) fn parse<'a>(token: Token<'a>) -> Result<Info, Error<'a>> {
    let wrong = Error::Type {
        field: "info",
        expected: "a comma-separated string",
    };
    let mut info = Info::default();
    match token.kind() {
        Kind::String => info.add(&token.decode().ok_or(wrong)?),
        Kind::Array => {
            for item in token.elements()? {
                info.add(&item?.decode().ok_or(wrong)?);
            }
        }
        _ => return Err(wrong),
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::json;

    fn read(text: &str) -> Result<Info, Error<'_>> {
        parse(json::document(text).expect("valid"))
    }

    #[test]
    fn blanks_and_empty_items_are_ignored_and_unknown_ones_noted() {
        let none = Info::default();
        let both = Info {
            user_count: true,
            subscription_count: true,
            ..none
        };
        let unknown = Info {
            unknown: true,
            ..none
        };
        for (text, expected) in [
            (r#""""#, none),
            (r#"" , ,""#, none),
            (r#""user_count,subscription_count""#, both),
            (r#"" user_count , subscription_count ,""#, both),
            (r#""user_count\u002csubscription_count""#, both),
            (r#"["user_count","subscription_count"]"#, both),
            (r#"["user_count, subscription_count"]"#, both),
            ("[]", none),
            (r#""User_count""#, unknown),
            (
                r#""cache""#,
                Info {
                    cache: true,
                    ..none
                },
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        assert_eq!(
            Info::parse("user_count,,nope,subscription_count"),
            Info {
                unknown: true,
                ..both
            }
        );
    }

    #[test]
    fn other_types_are_refused() {
        for text in ["5", "{}", "true", r#"["user_count",5]"#, "[null]"] {
            assert!(
                matches!(read(text), Err(Error::Type { field: "info", .. })),
                "{text}"
            );
        }
    }
}
