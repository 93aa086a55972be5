//! The WebSocket protocol (RFC 6455) as functions over bytes: what a peer sent, and what to send.
//!
//! Nothing here awaits, reads a clock, owns a socket, logs, or knows an app. The server's half is
//! complete; of the client's half there is what tests and the load generator need (`client`).
//! Extensions are not negotiated, so that every reserved bit is a violation.
//!
//! Invariant: whatever the bytes are, a call returns events or one [`Error`], and what it keeps is
//! bounded by what has arrived, never by what a header announces.

pub mod client;
pub mod close;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;

mod fragments;
mod held;
mod intake;
mod partial;
mod whole;

#[cfg(test)]
mod conversation;
#[cfg(test)]
mod cuts;

/// How a peer broke the protocol. Each is fatal to its connection: send a Close frame with
/// [`Error::close_code`] and [`Error::reason`], and read no further (WebSocket spec 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// RSV1, RSV2 or RSV3 set; they belong to extensions, and none was negotiated.
    ReservedBits,
    /// Opcode 3-7 or 11-15.
    ReservedOpcode,
    /// A control frame without FIN.
    FragmentedControl,
    /// A control frame with more than 125 bytes of payload.
    ControlTooLong,
    /// A length that would have fitted a shorter form.
    LengthNotShortest,
    /// A length of 2^63 or more.
    LengthTooLarge,
    /// A frame of a client that is not masked.
    Unmasked,
    /// A continuation where no message has begun.
    ContinuationWithoutStart,
    /// A text or binary frame where a continuation had to come.
    StartWithinMessage,
    /// A text message that is not UTF-8.
    TextNotUtf8,
    /// A message above the limit, seen in a header.
    MessageTooBig,
    /// A Close frame with a body of one byte.
    CloseBodyOfOneByte,
    /// A close code that must not be sent.
    CloseCodeNotAllowed,
    /// A close reason that is not UTF-8.
    CloseReasonNotUtf8,
}

impl Error {
    /// The code for the Close frame that ends the connection.
    pub fn close_code(self) -> u16 {
        match self {
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 => 1007,
            Self::MessageTooBig => 1009,
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::LengthNotShortest
            | Self::LengthTooLarge
            | Self::Unmasked
            | Self::ContinuationWithoutStart
            | Self::StartWithinMessage
            | Self::CloseBodyOfOneByte
            | Self::CloseCodeNotAllowed => 1002,
        }
    }

    /// The reason for the same frame, at most 123 bytes.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "Reserved bit set",
            Self::ReservedOpcode => "Reserved opcode",
            Self::FragmentedControl => "Fragmented control frame",
            Self::ControlTooLong => "Control frame payload too long",
            Self::LengthNotShortest => "Payload length not in its shortest form",
            Self::LengthTooLarge => "Payload length too large",
            Self::Unmasked => "Frame not masked",
            Self::ContinuationWithoutStart => "Continuation without a message",
            Self::StartWithinMessage => "New message inside a fragmented one",
            Self::TextNotUtf8 => "Text is not UTF-8",
            Self::MessageTooBig => "Message too big",
            Self::CloseBodyOfOneByte => "Close body of one byte",
            Self::CloseCodeNotAllowed => "Close code not allowed",
            Self::CloseReasonNotUtf8 => "Close reason is not UTF-8",
        }
    }
}
