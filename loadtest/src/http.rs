//! HTTP/1.1 as far as a client that counts answers needs it: status and end; and for the floor,
//! fields of a request.

use memchr::memmem;

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// The server ends the connection behind it.
    pub(crate) closes: bool,
    pub(crate) body: &'a [u8],
}

/// The answer at the start of `bytes` and its length; `None` if it has not come whole.
///
/// Bodies are read by `Content-Length` and in chunks. An answer with neither ends with its head.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Answer<'_>, usize)> {
    let head_bytes = head_end(bytes)?;
    let head = &bytes[..head_bytes];
    let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    let is_chunked =
        field(head, b"transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case(b"chunked"));
    let body_bytes = match field(head, b"content-length") {
        _ if is_chunked => chunks_end(&bytes[head_bytes..])?,
        Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        None => 0,
    };
    let end = head_bytes.checked_add(body_bytes)?;
    let closes = field(head, b"connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
    let body = bytes.get(head_bytes..end)?;
    Some((
        Answer {
            status,
            closes,
            body,
        },
        end,
    ))
}

/// Where the chunks end that `bytes` begin with; trailers are not for this program.
fn chunks_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = memmem::find(bytes.get(at..)?, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = size.split(';').next().unwrap_or(size).trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        at = at
            .checked_add(line + 2)?
            .checked_add(size)?
            .checked_add(2)?;
        if size == 0 {
            return (at <= bytes.len()).then_some(at);
        }
    }
}

/// Where the head ends that `bytes` begin with.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    Some(memmem::find(bytes, END)? + END.len())
}

/// The value of a field; `name` in lower case.
pub(crate) fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        for answer in [
            "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ] {
            for split in 0..answer.len() {
                assert_eq!(parse(&answer.as_bytes()[..split]), None, "cut at {split}");
            }
            let behind = format!("{answer}HTTP/1.1");
            let (read, used) = parse(behind.as_bytes()).unwrap();
            assert_eq!((read.status, read.closes, used), (503, false, answer.len()));
        }
        let (empty, used) = parse(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(
            (empty.status, empty.closes, empty.body, used),
            (204, true, &b""[..], 46)
        );
    }

    #[test]
    fn a_field_is_found_whatever_its_case() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nSEC-websocket-Key:  k \r\n\r\n";
        assert_eq!(field(head, b"sec-websocket-key"), Some(&b"k"[..]));
        assert_eq!(field(head, b"sec-websocket"), None);
    }
}
