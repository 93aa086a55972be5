//! What does it cost to validate one text? The SIMD validator against that of the standard
//! library, which is fast for ASCII and reads anything else byte by byte.

mod measure;

use std::hint::black_box;

fn main() {
    let ping = r#"{"event":"pusher:ping","data":{}}"#.to_owned();
    let event = |data: &str| {
        let data = data.repeat(240 / data.len());
        format!(r#"{{"event":"client-x","channel":"private-room","data":"{data}"}}"#)
    };
    let texts = [
        ("ping", ping),
        ("event, ASCII", event("some plain text ")),
        ("event, French", event("un été à la plage ")),
        ("event, Japanese", event("日本語の文章です")),
        ("event, 64 KiB", event("日本語 and ASCII ").repeat(220)),
    ];
    for (label, text) in texts {
        let bytes = text.as_bytes();
        measure::compare(
            &format!("{label}, {} B", bytes.len()),
            bytes.len(),
            || assert!(simdutf8::basic::from_utf8(black_box(bytes)).is_ok()),
            || assert!(str::from_utf8(black_box(bytes)).is_ok()),
        );
    }
}
