//! Answers of the HTTP API, as far as a client that counts them needs: status and end.

/// The status of the answer at the start of `bytes` and its length; `None` if it has not come
/// whole.
///
/// An answer without a `Content-Length` ends with its head: servers that stream their answers are
/// not for this program.
pub(crate) fn parse(bytes: &[u8]) -> Option<(u16, usize)> {
    let head_bytes = head_end(bytes)?;
    let head = std::str::from_utf8(&bytes[..head_bytes]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| {
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse().ok()).flatten()
        });
    let end = head_bytes.checked_add(length.unwrap_or(0))?;
    (bytes.len() >= end).then_some((status, end))
}

/// Where the head ends that `bytes` begin with.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let at = bytes.windows(END.len()).position(|window| window == END)?;
    Some(at + END.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let bytes = b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1";
        let end = bytes.len() - 8;
        for split in 0..end {
            assert_eq!(parse(&bytes[..split]), None, "cut at {split}");
        }
        assert_eq!(parse(bytes), Some((503, end)));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, 27)));
    }
}
