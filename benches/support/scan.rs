//! Scans the WebSocket frames of a server, and reports the kind and the beginning of each message without parsing it.

/// The number of bytes that identify the kind of a message: `{"type":"new_`.
const HEAD_BYTES: usize = 13;
/// The first byte of a ping frame (`PING`), and of a close frame (`GOODBYE`).
const PING: u8 = 0x89;
const GOODBYE: u8 = 0x88;

/// The kind of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An event.
    Event,
    /// The message that ends the replay.
    Live,
    /// A ping.
    Ping,
    /// A close frame.
    Goodbye,
    /// Any other message.
    Other,
}

/// Finds the messages in the bytes of one socket.
pub struct Scanner {
    keep: usize,
    head: Vec<u8>,
    left: usize,
    begun: Vec<u8>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::keeping(HEAD_BYTES)
    }
}

impl Scanner {
    /// Keeps the first `bytes` bytes of each message, and at least the `HEAD_BYTES` that identify its kind.
    pub fn keeping(bytes: usize) -> Self {
        Self {
            keep: bytes.max(HEAD_BYTES),
            head: Vec::new(),
            left: 0,
            begun: Vec::new(),
        }
    }

    /// Calls `each` at the end of each message, with the kind of the message and its first bytes.
    pub fn scan(&mut self, mut bytes: &[u8], mut each: impl FnMut(Kind, &[u8])) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                let Some(length) = payload(&self.head) else { continue };
                if length == 0 && self.head[0] == PING {
                    each(Kind::Ping, &[]);
                }
                if self.head[0] == GOODBYE {
                    each(Kind::Goodbye, &[]);
                }
                self.left = length;
                self.head.clear();
                self.begun.clear();
                continue;
            }
            let take = self.left.min(bytes.len());
            let wanted = self.keep.saturating_sub(self.begun.len()).min(take);
            self.begun.extend_from_slice(&bytes[..wanted]);
            self.left -= take;
            bytes = &bytes[take..];
            if self.left == 0 {
                let kind = match self.begun.get(..HEAD_BYTES) {
                    Some(br#"{"type":"new_"#) => Kind::Event,
                    Some(br#"{"type":"live"#) => Kind::Live,
                    _ => Kind::Other,
                };
                each(kind, &self.begun);
            }
        }
    }
}

fn payload(head: &[u8]) -> Option<usize> {
    match (head.get(1)?, head.len()) {
        (126, 4) => Some(u16::from_be_bytes([head[2], head[3]]).into()),
        (127, 10) => Some(u64::from_be_bytes(head[2..10].try_into().ok()?) as usize),
        (length, 2) if *length < 126 => Some((*length).into()),
        _ => None,
    }
}
