//! How channels use delta compression, by patterns of their names (extensions spec 3.4).
//!
//! An entry is one line, so that it can stand in a list wherever options can: a pattern and behind
//! it what differs from the defaults, as in `ticker-* conflation_key=symbol keys_max=500`.

use crate::pusher::delta::Algorithm;
use crate::pusher::delta::conflation::PATH_NAMES_MAX;

/// Keys of a channel where its policy names no number.
pub const KEYS_MAX_USUAL: u32 = 100;
/// Keys of a channel that a policy may name. A key that is new looks for the oldest among them.
pub const KEYS_MAX_MAX: u32 = 10_000;

/// The policies of an app in their order; the first whose pattern fits counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeltaPolicies(Vec<DeltaPolicy>);

/// What holds for the channels of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaPolicy {
    /// A name, or the beginning of names.
    pattern: Box<str>,
    is_prefix: bool,
    pub preference: Preference,
    /// Where in the data of an event its key stands.
    pub conflation_key: Option<Box<str>>,
    pub keys_max: u32,
}

/// Which algorithm is used where the client leaves that open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    #[default]
    Usual,
    Algorithm(Algorithm),
    /// Events are sent in full, unless their publisher wishes otherwise.
    None,
}

impl DeltaPolicies {
    /// In their order.
    pub fn new(policies: Vec<DeltaPolicy>) -> Self {
        Self(policies)
    }

    /// What holds for a channel, if anything is said of it.
    pub fn find(&self, channel: &str) -> Option<&DeltaPolicy> {
        self.0.iter().find(|policy| policy.fits(channel))
    }
}

impl DeltaPolicy {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Option<Self> {
        let mut words = entry.split_ascii_whitespace();
        let pattern = words.next()?;
        let prefix = pattern.strip_suffix('*');
        let mut policy = Self {
            pattern: prefix.unwrap_or(pattern).into(),
            is_prefix: prefix.is_some(),
            preference: Preference::default(),
            conflation_key: None,
            keys_max: KEYS_MAX_USUAL,
        };
        if policy.pattern.contains('*') {
            return None;
        }
        for word in words {
            match word.split_once('=')? {
                ("algorithm", "none") => policy.preference = Preference::None,
                ("algorithm", name) => {
                    policy.preference = Preference::Algorithm(Algorithm::parse(name)?);
                }
                ("conflation_key", path) if is_path(path) => {
                    policy.conflation_key = Some(path.into());
                }
                ("keys_max", number) => {
                    let bounds = 1..=KEYS_MAX_MAX;
                    policy.keys_max = number.parse().ok().filter(|n| bounds.contains(n))?;
                }
                _ => return None,
            }
        }
        Some(policy)
    }

    fn fits(&self, channel: &str) -> bool {
        match self.is_prefix {
            true => channel.starts_with(&*self.pattern),
            false => *channel == *self.pattern,
        }
    }
}

fn is_path(path: &str) -> bool {
    !path.is_empty() && path.split('.').count() <= PATH_NAMES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(entries: &[&str]) -> DeltaPolicies {
        let policies = entries.iter().map(|entry| DeltaPolicy::parse(entry));
        DeltaPolicies::new(policies.collect::<Option<_>>().expect("valid entries"))
    }

    #[test]
    fn the_first_pattern_that_fits_counts() {
        let policies = policies(&[
            "ticker-btc algorithm=none",
            "ticker-* conflation_key=asset.symbol keys_max=500 algorithm=vcdiff",
            "* algorithm=fossil",
        ]);
        let preference = |channel| policies.find(channel).map(|policy| policy.preference);
        assert_eq!(preference("ticker-btc"), Some(Preference::None));
        let xdelta3 = Some(Preference::Algorithm(Algorithm::Xdelta3));
        assert_eq!(
            (preference("ticker-btc2"), preference("ticker-")),
            (xdelta3, xdelta3)
        );
        let fossil = Some(Preference::Algorithm(Algorithm::Fossil));
        assert_eq!(preference("ticker"), fossil);
        let ticker = policies.find("ticker-x").expect("it fits");
        assert_eq!(ticker.conflation_key.as_deref(), Some("asset.symbol"));
        assert_eq!(ticker.keys_max, 500);
        assert_eq!(
            policies.find("news").map(|news| news.keys_max),
            Some(KEYS_MAX_USUAL)
        );
        assert!(DeltaPolicies::default().find("news").is_none());
    }

    #[test]
    fn entries_that_say_nothing_or_too_much_are_none() {
        for entry in [
            "",
            "a*b",
            "a**",
            "a algorithm",
            "a algorithm=",
            "a algorithm=bsdiff",
            "a keys_max=0",
            "a keys_max=10001",
            "a keys_max=x",
            "a conflation_key=",
            "a conflation_key=1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17",
            "a colour=red",
        ] {
            assert_eq!(DeltaPolicy::parse(entry), None, "{entry}");
        }
    }
}
