use super::apply::apply;
use super::*;
use crate::seed::Seed;

/// Both deltas of a pair, which give the target; their lengths, in the order of
/// [`Algorithm::ALL`].
#[track_caller]
fn both(encoder: &mut Encoder, base: &[u8], target: &[u8]) -> [usize; 2] {
    let mut difference = encoder.compare(base, target, usize::MAX).expect("no bound");
    Algorithm::ALL.map(|algorithm| {
        let mut delta = b"before".to_vec();
        assert!(difference.write(algorithm, &mut delta));
        let delta = delta.strip_prefix(b"before").expect("only appended to");
        let applied = apply(algorithm, base, delta);
        assert_eq!(
            applied.as_deref(),
            Some(target),
            "{algorithm:?}: {}",
            delta.escape_ascii()
        );
        delta.len()
    })
}

fn delta(algorithm: Algorithm, base: &[u8], target: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    let difference = encoder.compare(base, target, usize::MAX);
    assert!(difference.expect("no bound").write(algorithm, &mut out));
    out
}

const TICK: &[u8] =
    br#"{"event":"tick","channel":"ticker","data":"{\"symbol\":\"BTC\",\"price\":64012.50}"}"#;

#[test]
fn the_deltas_of_a_tick_byte_for_byte() {
    let next = String::from_utf8_lossy(TICK).replace("64012.50", "64013.75");
    // 84 bytes: 77 copied from the beginning, then 7, of which the last three are too few to be
    // copied.
    assert_eq!(
        delta(Algorithm::Fossil, TICK, next.as_bytes()),
        b"1K\n1D@0,7:3.75}\"}1U4t0W;"
    );
    assert_eq!(
        delta(Algorithm::Xdelta3, TICK, next.as_bytes()),
        b"\xd6\xc3\xc4\x00\x00\x01T\x00\x10T\x00\x07\x03\x013.75}\"}\x13M\x08\x00"
    );
}

#[test]
fn an_algorithm_is_known_by_its_name_and_place() {
    for (index, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        assert_eq!(algorithm.index(), index);
        assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
    }
}

#[test]
fn every_kind_of_edit_gives_the_target() {
    let mut encoder = Encoder::default();
    let long = "abcdefghijklmnopqrstuvwxyz0123456789"
        .repeat(40)
        .into_bytes();
    let moved = [&long[700..], &long[..700]].concat();
    let inserted = [&long[..100], b"something new", &long[100..]].concat();
    let removed = [&long[..100], &long[113..]].concat();
    for (base, target) in [
        (&b""[..], &b""[..]),
        (b"", b"x"),
        (b"x", b""),
        (b"x", b"x"),
        (b"0123456", b"0123456"),
        (b"01234567", b"01234567"),
        (b"01234567", b"x01234567y"),
        (&long, &long),
        (&long, b""),
        (b"", &long),
        (&long, &moved),
        (&long, &inserted),
        (&long, &removed),
        (&inserted, &long),
        (&long, &[&long[..], &long].concat()),
        (&long[..300], &long),
        (&long, &long[300..]),
        (&long, &[0xff; 3000]),
        (&[0xff; 3000], &[0xff; 2000]),
    ] {
        both(&mut encoder, base, target);
    }
}

#[test]
fn what_goes_on_elsewhere_is_found_where_it_goes_on() {
    let element = |id: usize, price: usize| {
        format!(r#"{{"id":{id},"name":"something","price":{price},"currency":"EUR"}}"#)
    };
    let list = |price: fn(usize) -> usize| {
        let elements: Vec<_> = (0..50).map(|id| element(id, price(id))).collect();
        format!("[{}]", elements.join(",")).into_bytes()
    };
    // Every price becomes one digit longer: fifty edits, each of which moves the rest.
    let (base, target) = (list(|id| 900 + id), list(|id| 1000 + id));
    let [fossil, xdelta3] = both(&mut Encoder::default(), &base, &target);
    assert!(fossil < target.len() / 4, "{fossil} of {}", target.len());
    assert!(xdelta3 < target.len() / 4, "{xdelta3} of {}", target.len());
}

#[test]
fn a_delta_over_its_bound_is_not_written() {
    let mut encoder = Encoder::default();
    let target = String::from_utf8_lossy(TICK).replace("64012.50", "64013.75");
    let target = target.as_bytes();
    let lengths = both(&mut encoder, TICK, target);
    for (algorithm, bytes) in Algorithm::ALL.into_iter().zip(lengths) {
        for (bytes_max, fits) in [(bytes, true), (bytes - 1, false), (0, false)] {
            let mut out = b"before".to_vec();
            let difference = encoder.compare(TICK, target, bytes_max);
            let written =
                difference.is_some_and(|mut difference| difference.write(algorithm, &mut out));
            assert_eq!(written, fits, "{algorithm:?} {bytes_max}");
            assert_eq!(out.len(), 6 + if fits { bytes } else { 0 });
        }
    }
    // Two texts that share nothing: the search ends with the bytes that it may spend.
    let noise = Seed::new(77).bytes(1 << 20);
    assert!(
        encoder
            .compare(&noise[..1 << 19], &noise[1 << 19..], 100)
            .is_none()
    );
    let too_long = vec![b'x'; TEXT_BYTES_MAX + 1];
    assert!(encoder.compare(&too_long, b"x", usize::MAX).is_none());
    assert!(encoder.compare(b"x", &too_long, usize::MAX).is_none());
}

/// Texts in which every place looks like every other, or like many, or goes on nowhere.
fn hostile_texts(bytes: usize) -> Vec<Vec<u8>> {
    let mut random = Seed::new(80);
    let broken = |period: usize| {
        let letters = (1..=bytes).map(|at| if at % period == 0 { b'b' } else { b'a' });
        letters.collect::<Vec<u8>>()
    };
    let noise = random.bytes(bytes);
    // Every copy is of one window, and goes on where nothing like it stands.
    let mut blocks: Vec<_> = noise.chunks(matching::WINDOW).collect();
    for last in (1..blocks.len()).rev() {
        blocks.swap(last, random.below(last + 1));
    }
    let shuffled = blocks.concat();
    // The same with a byte between: the most pieces that there can be.
    let parted = blocks.join(&b'-')[..bytes].to_vec();
    let rotated = [&noise[bytes / 2..], &noise[..bytes / 2]].concat();
    let run = vec![b'a'; bytes];
    let (every_7, every_9) = (broken(7), broken(9));
    vec![run, every_7, every_9, noise, shuffled, parted, rotated]
}

#[test]
fn hostile_texts_are_encoded_in_proportion_to_their_length() {
    // A search that goes back, or through all places with one hash, would look at a word 10^8 times.
    const LOOKS_PER_BYTE_MAX: usize = 6;
    let mut encoder = Encoder::default();
    // The longer ones have more windows than the index.
    for bytes in [8_000, 100_000] {
        let texts = hostile_texts(bytes);
        for base in &texts {
            for target in &texts {
                matching::looked::take();
                let found = encoder.compare(base, target, usize::MAX).is_some();
                let looked = matching::looked::take();
                let most = LOOKS_PER_BYTE_MAX * (base.len() + target.len());
                assert!(found && looked < most, "{looked} of {most}");
                both(&mut encoder, base, target);
            }
        }
    }
}

/// A text and an edited form of it, both from a small vocabulary.
fn edited(random: &mut Seed, bytes_max: usize) -> (Vec<u8>, Vec<u8>) {
    const VOCABULARY: &[u8] =
        br#"{"event":"tick","channel":"ticker","data":"{\"price\":64012.50}"}"#;
    let base = random.mixture(VOCABULARY, bytes_max);
    let mut target = base.clone();
    for _ in 0..random.below(6) {
        let [one, other] = [(); 2].map(|()| random.below(target.len() + 1));
        let (start, end) = (one.min(other), one.max(other));
        match random.below(5) {
            0 => drop(target.drain(start..end)),
            1 => target
                .splice(start..start, random.mixture(VOCABULARY, 40))
                .for_each(drop),
            2 => target
                .splice(start..end, random.mixture(VOCABULARY, 40))
                .for_each(drop),
            3 => target.rotate_left(start),
            _ => target.extend_from_within(start..end.min(start + 500)),
        }
    }
    (base, target)
}

/// Whatever the two texts are, both deltas give the target, and none breaks its bound.
pub(crate) fn fuzz_delta(encoder: &mut Encoder, base: &[u8], target: &[u8], bytes_max: usize) {
    let lengths = both(encoder, base, target);
    let Some(mut difference) = encoder.compare(base, target, bytes_max) else {
        assert!(lengths.iter().all(|bytes| *bytes > bytes_max));
        return;
    };
    for (algorithm, bytes) in Algorithm::ALL.into_iter().zip(lengths) {
        let mut out = Vec::new();
        assert_eq!(difference.write(algorithm, &mut out), bytes <= bytes_max);
    }
}

#[test]
fn seeded_pairs_give_their_targets() {
    let mut random = Seed::new(78);
    let mut encoder = Encoder::default();
    for round in 0..4_000 {
        let bytes_max = if round % 100 == 0 { 40_000 } else { 600 };
        let (base, target) = edited(&mut random, bytes_max);
        let bound = random.below(target.len() + 2);
        fuzz_delta(&mut encoder, &base, &target, bound);
        let noise = random.bytes(40);
        fuzz_delta(&mut encoder, &noise, &target, bound);
    }
}

#[test]
fn a_damaged_delta_is_no_delta_or_gives_another_target() {
    // Of the decoders that the other tests rely on: they read what they say and nothing else.
    let mut random = Seed::new(79);
    let target = String::from_utf8_lossy(TICK).replace("64012.50", "64013.75");
    for algorithm in Algorithm::ALL {
        let delta = delta(algorithm, TICK, target.as_bytes());
        for end in 0..delta.len() {
            assert_eq!(apply(algorithm, TICK, &delta[..end]), None);
        }
        for _ in 0..2_000 {
            let mut damaged = delta.clone();
            random.mutate(&mut damaged, b"\x00\x01\x13;:@,0A~\xff");
            let applied = apply(algorithm, TICK, &damaged);
            if algorithm == Algorithm::Fossil && damaged != delta {
                // Its checksum is of the text; only another way to the same text gets past it.
                assert!(applied.is_none_or(|applied| applied == target.as_bytes()));
            }
        }
    }
}
