//! The frames that wait to be written to one socket. Frames of batches are shared with other sessions of the store.
//! Messages to this client only are gathered in a separate buffer. One write sends both, without another copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use crate::fanout::router::put_text_frame;

/// A ping as one WebSocket frame without payload and without a mask.
const PING: [u8; 2] = [0x89, 0];
/// Maximum number of buffers that one system call writes.
const PIECES_AT_ONCE: usize = 32;
/// Number of shared buffers for which an empty write buffer keeps memory.
const IDLE_PIECES: usize = 4;

/// The frames that wait to be written to one socket.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    pieces: VecDeque<Bytes>,
    /// Frames of messages to this client only. They are written after the frames in `pieces`.
    own: Vec<u8>,
    bytes: usize,
    /// Whether the first frame is partly written. The rest of this frame must be written before any other frame.
    midway: bool,
}

impl WriteBuffer {
    /// Appends a text message, as one frame.
    pub fn put_text(&mut self, text: &str) {
        let before = self.own.len();
        put_text_frame(&mut self.own, text);
        self.bytes += self.own.len() - before;
    }

    /// Appends a ping frame.
    pub fn put_ping(&mut self) {
        self.own.extend_from_slice(&PING);
        self.bytes += PING.len();
    }

    /// Appends complete frames that are shared with other sessions.
    pub fn put_frames(&mut self, frames: Bytes) {
        self.seal();
        self.bytes += frames.len();
        self.pieces.push_back(frames);
    }

    /// The number of bytes that wait to be written.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a frame is partly written. The rest of this frame must be written before any other frame.
    pub fn is_midway(&self) -> bool {
        self.midway
    }

    fn seal(&mut self) {
        if !self.own.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.own).into());
        }
    }

    /// Writes all frames. Cancel safe: bytes that are not written yet stay in the buffer.
    pub fn poll_write(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.seal();
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_AT_ONCE];
            let count = self.pieces.len().min(PIECES_AT_ONCE);
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            let written = ready!(Pin::new(&mut *socket).poll_write_vectored(context, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            self.pieces.pop_front();
        }
        self.midway = !self.pieces.is_empty();
        if self.pieces.is_empty() {
            self.pieces.shrink_to(IDLE_PIECES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket that accepts a limited number of bytes in each write. If the number is 0, the write stays pending.
    struct Narrow {
        takes: VecDeque<usize>,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let takes = self.takes.pop_front().unwrap_or(usize::MAX).min(bytes.len());
            if takes == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.taken.extend_from_slice(&bytes[..takes]);
            Poll::Ready(Ok(takes))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_written_once_and_in_order_however_little_the_socket_takes(
            puts in proptest::collection::vec((any::<bool>(), 0_usize..300), 0..80),
            takes in proptest::collection::vec(0_usize..400, 0..200),
        ) {
            let (mut write_buffer, mut expected) = (WriteBuffer::default(), Vec::new());
            for (index, (shared, length)) in puts.into_iter().enumerate() {
                let text = char::from(b'a' + (index % 26) as u8).to_string().repeat(length);
                put_text_frame(&mut expected, &text);
                if shared {
                    let mut frame = Vec::new();
                    put_text_frame(&mut frame, &text);
                    write_buffer.put_frames(frame.into());
                } else {
                    write_buffer.put_text(&text);
                }
            }
            prop_assert_eq!(write_buffer.bytes(), expected.len());
            let mut socket = Narrow { takes: takes.into(), taken: Vec::new() };
            let mut context = Context::from_waker(std::task::Waker::noop());
            while write_buffer.poll_write(&mut socket, &mut context)?.is_pending() {
                prop_assert_eq!(write_buffer.bytes(), expected.len() - socket.taken.len());
            }
            prop_assert_eq!(&socket.taken, &expected);
            prop_assert_eq!((write_buffer.bytes(), write_buffer.is_midway()), (0, false));
        }
    }
}
