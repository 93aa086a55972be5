//! What does it cost to write the string that a request signs? In ns, from the query as it came to
//! the bytes that go into the HMAC: parameters read, sorted, joined.
//!
//! The slow twin splits into owned strings, sorts and joins them, as libraries do.

mod measure;

use std::hint::black_box;

use shardcast::pusher::query::{ArrayForm, Decoding, Query};

fn main() {
    let md5 = "ec365a775a4cd0599faeb73354201b6f";
    let signature = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
    let auth = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";
    for (label, query) in [
        (
            "publish",
            format!("{auth}&body_md5={md5}&auth_signature={signature}"),
        ),
        (
            "channels, with info",
            format!("{auth}&filter_by_prefix=presence-&info=user_count&auth_signature={signature}"),
        ),
    ] {
        write(label, &query);
    }
}

fn write(label: &str, query: &str) {
    let mut out = Vec::new();
    measure::compare(
        label,
        query.len(),
        || {
            out.clear();
            let query = Query::parse(black_box(query), Decoding::Raw).expect("a lawful query");
            query.write_to_sign(&mut out, ArrayForm::Brackets);
            assert!(black_box(&out).starts_with(b"auth_key="));
        },
        || {
            let pairs = black_box(query)
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            let mut pairs: Vec<(String, String)> = pairs
                .filter(|(name, _)| *name != "auth_signature")
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            pairs.sort();
            let joined: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            assert!(black_box(joined.join("&")).starts_with("auth_key="));
        },
    );
}
