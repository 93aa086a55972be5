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

/// What is no answer, or longer than any that this program waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// A head of an answer, at most.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// A body, at most.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The answer at the start of `bytes` and its length; `None` if it has not come whole.
///
/// Bodies are read by `Content-Length` and in chunks. An answer with neither ends with its head.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Answer<'_>, usize)>, Unreadable> {
    const BEGIN: &[u8] = b"HTTP/1.";
    let begin = bytes.len().min(BEGIN.len());
    if bytes[..begin] != BEGIN[..begin] {
        return Err(Unreadable);
    }
    let Some(head_bytes) = head_end(bytes) else {
        return match bytes.len() > HEAD_BYTES_MAX {
            true => Err(Unreadable),
            false => Ok(None),
        };
    };
    let head = &bytes[..head_bytes];
    let status = head.get(9..12).and_then(number).ok_or(Unreadable)?;
    let is_chunked =
        field(head, b"transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case(b"chunked"));
    let body_bytes = match field(head, b"content-length") {
        _ if is_chunked => match chunks_end(&bytes[head_bytes..])? {
            Some(end) => end,
            None => return Ok(None),
        },
        Some(digits) => number(digits).ok_or(Unreadable)?,
        None => 0,
    };
    if body_bytes > BODY_BYTES_MAX {
        return Err(Unreadable);
    }
    let closes = field(head, b"connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
    let end = head_bytes + body_bytes;
    Ok(bytes.get(head_bytes..end).map(|body| {
        let answer = Answer {
            status,
            closes,
            body,
        };
        (answer, end)
    }))
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Where the chunks end that `bytes` begin with; trailers are not for this program.
fn chunks_end(bytes: &[u8]) -> Result<Option<usize>, Unreadable> {
    /// A size and what may stand behind it.
    const LINE_BYTES_MAX: usize = 1 << 10;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        let Some(line) = memmem::find(rest, b"\r\n") else {
            return match rest.len() > LINE_BYTES_MAX {
                true => Err(Unreadable),
                false => Ok(None),
            };
        };
        let size = std::str::from_utf8(&rest[..line]).map_err(|_| Unreadable)?;
        let size = size.split(';').next().unwrap_or(size).trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| Unreadable)?;
        if size > BODY_BYTES_MAX || at > BODY_BYTES_MAX {
            return Err(Unreadable);
        }
        at += line + 2 + size + 2;
        if size == 0 {
            return Ok((at <= bytes.len()).then_some(at));
        }
    }
    Ok(None)
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
                let cut = parse(&answer.as_bytes()[..split]);
                assert_eq!(cut, Ok(None), "cut at {split}");
            }
            let behind = format!("{answer}HTTP/1.1");
            let (read, used) = parse(behind.as_bytes()).unwrap().unwrap();
            assert_eq!((read.status, read.closes, used), (503, false, answer.len()));
        }
        let empty = parse(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        let (empty, used) = empty.unwrap().unwrap();
        assert_eq!(
            (empty.status, empty.closes, empty.body, used),
            (204, true, &b""[..], 46)
        );
    }

    /// Or whoever waits for the rest waits for ever, or keeps all that comes.
    #[test]
    fn what_cannot_become_an_answer_is_no_answer_that_is_cut() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        for bytes in [
            "SSH-2.0",
            "HTTP/2",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            &endless,
        ] {
            assert_eq!(parse(bytes.as_bytes()), Err(Unreadable), "{bytes:.60}");
        }
    }

    #[test]
    fn a_field_is_found_whatever_its_case() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nSEC-websocket-Key:  k \r\n\r\n";
        assert_eq!(field(head, b"sec-websocket-key"), Some(&b"k"[..]));
        assert_eq!(field(head, b"sec-websocket"), None);
    }
}
