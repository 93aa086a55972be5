//! The tags of one event in the form that filters read and shards hand on.
//!
//! Built once per publish, in two allocations whatever the number of tags, and none where there is
//! no tag. The order is the publisher's, because that is how subscribers are shown them. Finding a
//! key is a walk that compares a word per tag and the key itself once: `tags_max` bounds the walk,
//! and for the handful of tags that events have it beats a search.

/// Keys and values of one event; each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSet {
    /// Key, value, key, value.
    text: Box<str>,
    tags: Box<[Tag]>,
}

/// Offsets into the text: the key, and behind it the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    mark: u32,
    key_start: u32,
    value_start: u32,
    end: u32,
}

impl TagSet {
    /// Takes pairs with distinct keys, of at most 4 GiB altogether.
    pub fn new<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Self {
        let bytes = |(key, value): &(K, V)| key.as_ref().len() + value.as_ref().len();
        let mut text = String::with_capacity(pairs.iter().map(bytes).sum());
        let tags = pairs
            .iter()
            .map(|(key, value)| {
                let key_start = text.len() as u32;
                text.push_str(key.as_ref());
                let value_start = text.len() as u32;
                text.push_str(value.as_ref());
                Tag {
                    mark: mark(key.as_ref()),
                    key_start,
                    value_start,
                    end: text.len() as u32,
                }
            })
            .collect();
        Self {
            text: text.into_boxed_str(),
            tags,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Keys and values in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tags.iter().map(|tag| (self.key(tag), self.value(tag)))
    }

    /// Bytes that it takes beside itself.
    pub fn heap_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.tags)
    }

    /// The value of a key, whose [`mark`] is given.
    #[inline]
    pub(super) fn find(&self, mark: u32, key: &str) -> Option<&str> {
        self.tags
            .iter()
            .find(|tag| tag.mark == mark && self.key(tag) == key)
            .map(|tag| self.value(tag))
    }

    fn key(&self, tag: &Tag) -> &str {
        &self.text[tag.key_start as usize..tag.value_start as usize]
    }

    fn value(&self, tag: &Tag) -> &str {
        &self.text[tag.value_start as usize..tag.end as usize]
    }
}

/// A word that differs for most keys (FNV-1a). Keys made to share one cost a comparison each.
pub(super) fn mark(key: &str) -> u32 {
    key.bytes().fold(0x811c_9dc5, |mark, byte| {
        (mark ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_its_value_and_the_order_stays() {
        let pairs = [("market", "spot"), ("é", ""), ("asset", "BTC")];
        let tags = TagSet::new(&pairs);
        assert!(tags.iter().eq(pairs));
        for (key, value) in pairs {
            assert_eq!(tags.find(mark(key), key), Some(value));
        }
        for key in ["", "spot", "markets", "marke", "tasset"] {
            assert_eq!(tags.find(mark(key), key), None);
        }
        assert!(TagSet::default().is_empty() && TagSet::default().find(mark(""), "").is_none());
    }

    #[test]
    fn keys_with_one_mark_are_told_apart() {
        // Two words that FNV-1a takes to the same 32 bits.
        let (a, b) = ("costarring", "liquid");
        assert_eq!(mark(a), mark(b));
        let tags = TagSet::new(&[(a, "1"), (b, "2")]);
        assert_eq!(tags.find(mark(a), a), Some("1"));
        assert_eq!(tags.find(mark(b), b), Some("2"));
        assert_eq!(TagSet::new(&[(a, "1")]).find(mark(b), b), None);
    }
}
