//! Who wishes for deltas: a subscription in one of several forms, a connection with a list.

use crate::pusher::json::{self, Kind, Token};

use super::Algorithm;

/// Names of algorithms that are looked at in the list of one client.
pub const ALGORITHMS_LISTED_MAX: usize = 16;

/// What one subscription says about deltas (`data.delta`, extensions spec 3.1); what it leaves open
/// is as on its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub enabled: Option<bool>,
    pub algorithm: Option<Algorithm>,
}

impl Wish {
    const OFF: Self = Self {
        enabled: Some(false),
        algorithm: None,
    };

    /// Reads any form. An algorithm that is not known turns deltas off: whoever asked for it may be
    /// unable to read another. What has none of the forms asks for nothing.
    pub fn parse(token: Token<'_>) -> Self {
        match token.kind() {
            Kind::Bool => Self {
                enabled: token.as_bool(),
                algorithm: None,
            },
            Kind::String => Self::of_name(token, Some(true)),
            Kind::Object => {
                let members = json::fields(token.raw(), &["enabled", "algorithm"]);
                let [enabled, algorithm] = members.unwrap_or_default();
                let enabled = enabled.and_then(|enabled| enabled.as_bool());
                match algorithm.filter(|algorithm| algorithm.kind() == Kind::String) {
                    Some(algorithm) if enabled != Some(false) => Self::of_name(algorithm, enabled),
                    _ => Self {
                        enabled,
                        algorithm: None,
                    },
                }
            }
            Kind::Null | Kind::Number | Kind::Array => Self::default(),
        }
    }

    fn of_name(name: Token<'_>, enabled: Option<bool>) -> Self {
        // "disabled", "none" and all that is no algorithm.
        let algorithm = name.decode().and_then(|name| Algorithm::parse(&name));
        algorithm.map_or(Self::OFF, |algorithm| Self {
            enabled,
            algorithm: Some(algorithm),
        })
    }
}

/// The algorithm for a connection that has listed its own (`data.algorithms`): the first that is
/// known, the default without a list, `None` where nothing of the list is known.
pub fn first_known(list: Option<Token<'_>>) -> Option<Algorithm> {
    let Some(list) = list.filter(|list| list.kind() == Kind::Array) else {
        return Some(Algorithm::default());
    };
    let names = list.elements().into_iter().flatten();
    names
        .take(ALGORITHMS_LISTED_MAX)
        .find_map(|name| Algorithm::parse(&name.ok()?.decode()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::json::document;

    #[test]
    fn a_subscription_may_wish_in_any_form() {
        const ON: Wish = Wish {
            enabled: Some(true),
            algorithm: None,
        };
        let with = |enabled, algorithm| Wish {
            enabled,
            algorithm: Some(algorithm),
        };
        let (fossil, xdelta3) = (Algorithm::Fossil, Algorithm::Xdelta3);
        for (text, wish) in [
            ("true", ON),
            ("false", Wish::OFF),
            (r#""fossil""#, with(Some(true), fossil)),
            (r#""xdelta3""#, with(Some(true), xdelta3)),
            (r#""vcdiff""#, with(Some(true), xdelta3)),
            (r#""VCDIFF""#, with(Some(true), xdelta3)),
            (r#""disabled""#, Wish::OFF),
            (r#""none""#, Wish::OFF),
            (r#""bsdiff""#, Wish::OFF),
            (r#"{"enabled":true}"#, ON),
            (r#"{"enabled":false,"algorithm":"fossil"}"#, Wish::OFF),
            (
                r#"{"enabled":true,"algorithm":"\u0066ossil"}"#,
                with(Some(true), fossil),
            ),
            (r#"{"algorithm":"vcdiff"}"#, with(None, xdelta3)),
            (r#"{"enabled":true,"algorithm":"bsdiff"}"#, Wish::OFF),
            (r#"{"enabled":true,"algorithm":null}"#, ON),
            ("{}", Wish::default()),
            (r#"{"enabled":"yes"}"#, Wish::default()),
            ("5", Wish::default()),
            ("[]", Wish::default()),
        ] {
            assert_eq!(Wish::parse(document(text).expect("JSON")), wish, "{text}");
        }
    }

    #[test]
    fn the_first_algorithm_that_is_known_is_taken() {
        let known = |text| first_known(Some(document(text).expect("JSON")));
        assert_eq!(first_known(None), Some(Algorithm::Fossil));
        assert_eq!(known(r#"["fossil","xdelta3"]"#), Some(Algorithm::Fossil));
        assert_eq!(
            known(r#"[5,"zip","vcdiff","fossil"]"#),
            Some(Algorithm::Xdelta3)
        );
        assert_eq!(known(r#"["zip"]"#), None);
        assert_eq!(known("[]"), None);
        assert_eq!(known(r#""xdelta3""#), Some(Algorithm::Fossil));
        let late = format!("[{}\"fossil\"]", "0,".repeat(ALGORITHMS_LISTED_MAX));
        assert_eq!(known(&late), None);
    }
}
