//! Limits how many WebSocket frames a client may send per second. This module counts the frames in the bytes of the
//! socket. The library tungstenite does not report every ping, pong and empty continuation frame, but such frames cost
//! as much as messages.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;
use crate::infra::rate_limiter::Rate;

/// The rate limit for the frames of one client: 50 a second, with a burst of 500 after a quiet time. A person's
/// acknowledgements stay far below this limit.
const FRAMES: Rate = Rate::per_second(50, 500);
/// Length of the longest frame head: two bytes, eight bytes of payload length, four bytes of mask.
const MAX_HEAD_BYTES: usize = 14;

/// A socket that counts its client's frames. Reads fail with [`io::ErrorKind::QuotaExceeded`] once the client has sent
/// too many frames.
pub struct Metered {
    socket: Socket,
    frames: Frames,
    next: Instant,
    is_over: bool,
}

impl Metered {
    /// Wraps a socket. `early` are bytes that were already read from it.
    pub fn new(socket: Socket, early: &[u8]) -> Self {
        let mut metered = Self {
            socket,
            frames: Frames::default(),
            next: Instant::now(),
            is_over: false,
        };
        metered.count(early);
        metered
    }

    fn count(&mut self, bytes: &[u8]) {
        let frames = self.frames.begun_by(bytes);
        let now = Instant::now();
        self.is_over |= !(0..frames).all(|_| FRAMES.allows(&mut self.next, now));
    }

    /// The socket without the rate limit. After a session has ended, this socket is used to read and discard the
    /// client's data.
    pub fn unmetered(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_over {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
            self.count(&buffer.filled()[before..]);
        }
        Poll::Ready(match self.is_over {
            true => Err(io::ErrorKind::QuotaExceeded.into()),
            false => Ok(()),
        })
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Finds WebSocket frames in the bytes that the client sent. A frame may begin in one read of the socket and continue
/// in the next.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; MAX_HEAD_BYTES],
    /// Number of bytes of the current frame's head that were received.
    come: usize,
    /// Number of bytes of the current frame's payload that have not arrived yet.
    payload: u64,
}

impl Frames {
    /// Processes the next bytes from the client. Returns the number of frames whose head became complete.
    fn begun_by(&mut self, mut bytes: &[u8]) -> usize {
        let mut frames = 0;
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.come] = *first;
            self.come += 1;
            bytes = rest;
            if let Some(payload) = self.payload_of_head() {
                (self.come, self.payload) = (0, payload);
                frames += 1;
            }
        }
        frames
    }

    /// The length of the current frame's payload, in bytes. `None`: the head has not arrived completely.
    fn payload_of_head(&self) -> Option<u64> {
        if self.come < 2 {
            return None;
        }
        let (is_masked, short) = (self.head[1] & 0x80 != 0, self.head[1] & 0x7f);
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.come < 2 + length_bytes + if is_masked { 4 } else { 0 } {
            return None;
        }
        let long = self.head[2..2 + length_bytes].iter();
        Some(match length_bytes {
            0 => short.into(),
            _ => long.fold(0, |length, byte| length << 8 | u64::from(*byte)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(payload: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; payload + if is_masked { 4 } else { 0 }]);
        frame
    }

    proptest! {
        #[test]
        fn every_frame_is_counted_once_however_the_stream_is_cut(
            frames in proptest::collection::vec((prop_oneof![0_usize..4, 120_usize..140, 65_530_usize..65_540], any::<bool>()), 0..20),
            cuts in proptest::collection::vec(1_usize..700, 1..50),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(payload, is_masked)| frame(*payload, *is_masked)).collect();
            let (mut counter, mut counted, mut rest) = (Frames::default(), 0, stream.as_slice());
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (chunk, left) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                counted += counter.begun_by(chunk);
                rest = left;
            }
            prop_assert_eq!(counted, frames.len());
        }
    }
}
