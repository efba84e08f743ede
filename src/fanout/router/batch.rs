//! A batch: events of one read of the journal, encoded once for several sessions. The events' WebSocket frames follow
//! each other in one buffer. WebSocket frames from a server have no mask, so the same bytes go to every socket, and a
//! session copies nothing.

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::event::{Delivery, EventId, EventType, PartnerEvent, StoreId, Xid};

/// The first byte of a WebSocket frame that contains a whole text message.
const FINAL_TEXT: u8 = 0x81;

/// An event of a batch, encoded once for all sessions.
#[derive(Debug)]
pub struct Published {
    /// The id of the event.
    pub id: EventId,
    /// The event's store.
    pub store: StoreId,
    /// The transaction that recorded the event. A session skips the event if its replay of missed events has already
    /// sent the events of this transaction.
    pub xid: Xid,
    /// The type of the event.
    pub kind: EventType,
    /// The time at which the trigger recorded the event, by Postgres' clock.
    pub at: OffsetDateTime,
    /// The cursor that the client gets with the event, as text. After a disconnect, the client continues from its
    /// newest cursor.
    pub cursor: Arc<str>,
    /// The event as JSON text. The text is a slice of the batch's frames, so it is not copied.
    pub text: Utf8Bytes,
    /// The end of the event's WebSocket frame in the batch's buffer, as a byte offset.
    end: usize,
}

/// Events of one read of the journal, in the order in which sessions send them. They may belong to several stores. A
/// clone shares the same memory.
#[derive(Debug, Clone)]
pub struct Batch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: Box<[Published]>,
    frames: Bytes,
}

/// Consecutive events of a batch, which a session writes together.
#[derive(Debug)]
pub struct BatchPart<'a> {
    /// The events of the part.
    pub events: &'a [Published],
    /// The WebSocket frames of the part's events.
    pub frames: Bytes,
}

impl Batch {
    /// Encodes the events as JSON and as WebSocket frames. The last event carries the cursor `after`, which includes
    /// all events of the batch. Every other event carries the cursor `before`, which includes none of them.
    pub(super) fn new(events: &[impl Borrow<PartnerEvent>], before: &Arc<str>, after: &Arc<str>) -> Self {
        let last = events.len().saturating_sub(1);
        let events = events.iter().map(Borrow::borrow);
        let mut frames = Vec::with_capacity(events.clone().map(|event| event.data.len() + 320).sum());
        let mut placed = Vec::with_capacity(events.len());
        for (index, event) in events.enumerate() {
            let cursor = if index == last { after } else { before };
            let text = event.to_wire(cursor, Delivery::Live);
            put_text_frame(&mut frames, &text);
            placed.push((event, cursor, text.len(), frames.len()));
        }
        let frames = Bytes::from(frames);
        let publish = |(event, cursor, length, end): (&PartnerEvent, &Arc<str>, usize, usize)| Published {
            id: event.id,
            store: event.store.clone(),
            xid: event.xid,
            kind: event.kind,
            at: event.at,
            cursor: Arc::clone(cursor),
            // The bytes come from a `String`, so they are valid UTF-8, and the empty default text is never used.
            text: Utf8Bytes::try_from(frames.slice(end - length..end)).unwrap_or_default(),
            end,
        };
        let events = placed.into_iter().map(publish).collect();
        Self(Arc::new(Shared { events, frames }))
    }

    /// The size of the batch's WebSocket frames, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.frames.len()
    }

    /// Splits the batch into parts of whole events. Each part has just enough events for a size of at least `bytes`
    /// bytes. Only the last part may be smaller. A session has a separate deadline for each part, so that a slow client
    /// can receive a large batch.
    pub fn parts(&self, bytes: usize) -> impl Iterator<Item = BatchPart<'_>> {
        let mut begin = (0, 0);
        std::iter::from_fn(move || {
            let (first, from) = begin;
            let rest = self.0.events.get(first..).filter(|rest| !rest.is_empty())?;
            let count = rest
                .iter()
                .position(|event| event.end - from >= bytes)
                .map_or(rest.len(), |index| index + 1);
            let events = &rest[..count];
            let to = events.last().map_or(from, |event| event.end);
            begin = (first + count, to);
            Some(BatchPart {
                events,
                frames: self.0.frames.slice(from..to),
            })
        })
    }
}

impl Deref for Batch {
    type Target = [Published];

    fn deref(&self) -> &[Published] {
        &self.0.events
    }
}

/// Appends a text message to `out`, as one WebSocket frame without a mask. The protocol forbids a server to mask its
/// frames.
pub fn put_text_frame(out: &mut Vec<u8>, text: &str) {
    out.push(FINAL_TEXT);
    match text.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::StoreId;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

    fn events(sizes: &[usize]) -> Vec<PartnerEvent> {
        let event = |(id, size): (usize, &usize)| PartnerEvent {
            id: EventId(id as i64),
            xid: Xid(1),
            store: StoreId::new("7"),
            kind: EventType::NewOrder,
            at: OffsetDateTime::UNIX_EPOCH,
            subject: None,
            previous: None,
            changed: Vec::new(),
            before: None,
            data: format!("\"{}\"", "ж".repeat(*size)),
        };
        sizes.iter().enumerate().map(event).collect()
    }

    #[test]
    fn the_frames_of_a_batch_are_what_a_client_of_any_library_reads_as_its_events() {
        // The texts' lengths are near each limit at which the encoding of a frame's length changes. The other tests use
        // short texts.
        let events = events(&[0, 1, 32_600, 32_700, 32_767, 40_000]);
        let batch = Batch::new(&events, &"before".into(), &"after".into());
        let mut client = WebSocket::from_raw_socket(std::io::Cursor::new(batch.0.frames.to_vec()), Role::Client, None);
        for event in batch.iter() {
            assert_eq!(client.read().unwrap(), Message::Text(event.text.clone()));
        }
        assert_eq!(client.get_ref().position() as usize, batch.bytes());
        let cursors: Vec<&str> = batch.iter().map(|event| &*event.cursor).collect();
        assert_eq!(cursors, ["before", "before", "before", "before", "before", "after"]);
    }

    #[test]
    fn short_texts_have_short_heads() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut frame = Vec::new();
            put_text_frame(&mut frame, &"x".repeat(length));
            let mut client = WebSocket::from_raw_socket(std::io::Cursor::new(frame), Role::Client, None);
            assert_eq!(client.read().unwrap().len(), length);
        }
    }

    #[test]
    fn the_parts_of_a_batch_are_all_of_it_in_order() {
        let events = events(&[10, 2000, 10, 10, 10, 500, 1]);
        let batch = Batch::new(&events, &"before".into(), &"after".into());
        for bytes in [1, 400, 1000, 1_000_000] {
            let parts: Vec<BatchPart<'_>> = batch.parts(bytes).collect();
            let ids: Vec<i64> = parts
                .iter()
                .flat_map(|part| part.events)
                .map(|event| event.id.0)
                .collect();
            assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6]);
            let frames: Vec<u8> = parts.iter().flat_map(|part| part.frames.to_vec()).collect();
            assert_eq!(frames, batch.0.frames);
            let (_, all_but_last) = parts.split_last().unwrap();
            assert!(all_but_last.iter().all(|part| part.frames.len() >= bytes));
        }
    }
}
